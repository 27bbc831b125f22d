"""What the server says about itself and its model: metadata, configuration, repository index.

Pure: from the signature and what the rank loaded to protocol messages.
"""

from __future__ import annotations

import openmodel_runtime
from openmodel_protos import grpc_service_pb2 as pb
from openmodel_protos import model_config_pb2 as config_pb
from openmodel_runtime.front.schemes.recognise import INPUTS, OUTPUTS
from openmodel_runtime.front.signature import TensorSignature
from openmodel_runtime.rank.messages import Loaded

PLATFORM = "openmodel"
EXTENSIONS = ("model_configuration", "statistics", "model_repository", "parameters")
_TYPES = {
    "BYTES": config_pb.TYPE_STRING,
    "BOOL": config_pb.TYPE_BOOL,
    "INT32": config_pb.TYPE_INT32,
    "UINT32": config_pb.TYPE_UINT32,
    "UINT64": config_pb.TYPE_UINT64,
    "FP32": config_pb.TYPE_FP32,
}


def server_metadata() -> pb.ServerMetadataResponse:
    """Name, version and extensions of the server."""
    return pb.ServerMetadataResponse(name=PLATFORM, version=openmodel_runtime.__version__, extensions=EXTENSIONS)


def model_metadata(name: str, version: str) -> pb.ModelMetadataResponse:
    """Tensors of the model, in the names of all schemes."""
    return pb.ModelMetadataResponse(
        name=name,
        versions=[version],
        platform=PLATFORM,
        inputs=[_metadata(signature) for signature in INPUTS],
        outputs=[_metadata(signature) for signature in OUTPUTS],
    )


def _metadata(signature: TensorSignature) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=signature.name, datatype=signature.datatype, shape=signature.shape
    )


def model_config(name: str, loaded: Loaded, card_license: str) -> pb.ModelConfigResponse:
    """The configuration in Triton's terms; what was loaded stands in `parameters`."""
    facts = {
        "architecture": loaded.architecture,
        "parameters": str(loaded.parameters),
        "active_parameters": str(loaded.active_parameters),
        "dtype": loaded.dtype,
        "kernels": loaded.kernels,
        "weight_bytes": str(loaded.weight_bytes),
        "activation_bytes": str(loaded.activation_bytes),
        "failover_bytes": str(loaded.failover_bytes),
        "kv_cache_bytes": str(loaded.kv_cache_bytes),
        "max_model_len": str(loaded.max_model_len),
        "kv_cache_tokens": str(loaded.kv_cache_tokens),
        "load_seconds": f"{loaded.load_seconds:.3f}",
        "license": card_license,
    }
    return pb.ModelConfigResponse(
        config=config_pb.ModelConfig(
            name=name,
            platform=PLATFORM,
            backend=PLATFORM,
            max_batch_size=0,
            input=[
                config_pb.ModelInput(
                    name=signature.name,
                    data_type=_TYPES[signature.datatype],
                    dims=signature.shape,
                    optional=True,
                )
                for signature in INPUTS
            ],
            output=[
                config_pb.ModelOutput(
                    name=signature.name,
                    data_type=_TYPES[signature.datatype],
                    dims=signature.shape,
                )
                for signature in OUTPUTS
            ],
            model_transaction_policy=config_pb.ModelTransactionPolicy(decoupled=True),
            parameters={key: config_pb.ModelParameter(string_value=value) for key, value in facts.items() if value},
        )
    )


def repository_index(name: str, version: str, ready: bool) -> pb.RepositoryIndexResponse.ModelIndex:
    """The model's line in the index."""
    return pb.RepositoryIndexResponse.ModelIndex(
        name=name,
        version=version,
        state="READY" if ready else "UNAVAILABLE",
        reason="" if ready else "loading",
    )
