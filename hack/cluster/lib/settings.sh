# shellcheck shell=bash disable=SC2034  # read by the scripts that source this file
# Names, folders, addresses and ranges of the development cluster: the one place that says them.

CLUSTER_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

OPENMODEL_CACHE=${OPENMODEL_CACHE:-$HOME/.cache/openmodel}
REGISTRY_DATA=$OPENMODEL_CACHE/registry

STATE=/var/lib/openmodel-cluster
RUN=/run/openmodel-cluster
LOCK=/run/lock/openmodel-cluster.lock

NODE_NAME=openmodel
BRIDGE=openmodel0
CGROUP=openmodel-cluster       # every pod lives below this control group
NFT_TABLE=openmodel-cluster

# Ranges chosen to collide with little: not the defaults of Docker, k3s, kind, minikube or kubeadm.
POD_RANGE=10.83.0.0/24
SERVICE_RANGE=10.84.0.0/16
API_SERVICE_IP=10.84.0.1
DNS_SERVICE_IP=10.84.0.10

API_PORT=6443
ETCD_PORT=2379
ETCD_PEER_PORT=2380
REGISTRY=127.0.0.1:5000
REGISTRY_PORT=5000

# In the order in which they start.
COMPONENTS=(registry etcd containerd kube-apiserver kube-controller-manager kube-scheduler
  kubelet kube-proxy kube-router)

KUBECONFIG_ADMIN=$STATE/kubeconfig

# A change of any pin or of the way of building gives a new folder of tools.
tools_version() {
  (cd "$CLUSTER_DIR" && cat modules/*/go.mod modules/*/go.sum build pause/pause.c) |
    sha256sum | cut -c1-12
}

TOOLS_VERSION=$(tools_version)
TOOLS_DIR=$OPENMODEL_CACHE/cluster-$TOOLS_VERSION
BIN=$TOOLS_DIR/bin

say() { printf '%s\n' "$*"; }

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

need_root() {
  [ "$(id -u)" = 0 ] ||
    fail "needs root: it mounts file systems, makes network interfaces and runs containers (try sudo)"
}
