# shellcheck shell=bash
# The configuration files of containerd, the network plugins, the kubelet, kube-proxy and the registry.

CONFIG=$STATE/config
CONTAINERD_SOCKET=$RUN/containerd.sock
PAUSE_IMAGE=$REGISTRY/openmodel-cluster/pause:$TOOLS_VERSION
# shellcheck disable=SC2034 # read by images.sh
COREDNS_IMAGE=$REGISTRY/openmodel-cluster/coredns:$TOOLS_VERSION
# shellcheck disable=SC2034
STORAGE_IMAGE=$REGISTRY/openmodel-cluster/local-path-provisioner:$TOOLS_VERSION
# shellcheck disable=SC2034
HELPER_IMAGE=$REGISTRY/openmodel-cluster/busybox:$TOOLS_VERSION

# The address of the interface with the default route; without one, the first global address.
node_address() {
  local address
  address=$(ip -4 -o route get 1.1.1.1 2>/dev/null | grep -oP 'src \K\S+' || true)
  [ -n "$address" ] ||
    address=$(ip -4 -o address show scope global | awk 'NR==1 {sub("/.*", "", $4); print $4}')
  [ -n "$address" ] || fail "this machine has no IPv4 address besides loopback; a node needs one"
  say "$address"
}

# Pods send packets no larger than the uplink takes.
node_mtu() {
  local interface
  interface=$(ip -4 -o address show | awk -v address="$1/" 'index($4, address) == 1 {print $2; exit}')
  cat "/sys/class/net/$interface/mtu"
}

# A resolver on loopback (systemd-resolved's stub) cannot be reached from a pod.
node_resolv_conf() {
  local real=/run/systemd/resolve/resolv.conf
  if grep -q '^nameserver 127\.' /etc/resolv.conf && [ -e "$real" ]; then
    say "$real"
  else
    say /etc/resolv.conf
  fi
}

write_containerd_config() {
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE (a container, some virtual machines) no sandbox starts.
  # discard_unpacked_layers: torch images are 5 GB; the unpacked snapshot is the only copy.
  # Network namespaces and runc's records lie in our own folders, so that none stay behind.
  cat >"$CONFIG/containerd.toml" <<TOML
version = 3
root = "$STATE/containerd"
state = "$RUN/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
address = "$CONTAINERD_SOCKET"

[ttrpc]
address = "$CONTAINERD_SOCKET.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
path = "$STATE/opt"

[plugins."io.containerd.cri.v1.images"]
discard_unpacked_layers = true

[plugins."io.containerd.cri.v1.images".registry]
config_path = "$CONFIG/registries"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "$PAUSE_IMAGE"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
Root = "$RUN/runc"

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "$CONFIG/cni"
TOML
  mkdir -p "$CONFIG/registries/$REGISTRY"
  cat >"$CONFIG/registries/$REGISTRY/hosts.toml" <<TOML
server = "http://$REGISTRY"

[host."http://$REGISTRY"]
capabilities = ["pull", "resolve", "push"]
TOML
}

write_network_config() {
  mkdir -p "$CONFIG/cni"
  # hairpinMode: a pod may call its own Service. Masquerading is one nft rule, see network.sh.
  cat >"$CONFIG/cni/10-openmodel.conflist" <<JSON
{
  "cniVersion": "1.0.0",
  "name": "openmodel",
  "plugins": [
    {
      "type": "bridge", "bridge": "$BRIDGE", "isGateway": true, "hairpinMode": true,
      "mtu": $(node_mtu "$(<"$STATE/node-ip")"),
      "ipam": {
        "type": "host-local", "dataDir": "$STATE/cni",
        "ranges": [[{"subnet": "$POD_RANGE"}]], "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
JSON
}

write_kubelet_config() {
  # failCgroupV1, failSwapOn: run on what the machine has. imageGCHighThresholdPercent: a shared disk
  # that others fill must not make the kubelet delete images, the pause image first.
  cat >"$CONFIG/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $PKI/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet-server.crt
tlsPrivateKeyFile: $PKI/kubelet-server.key
containerRuntimeEndpoint: unix://$CONTAINERD_SOCKET
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
clusterDomain: cluster.local
clusterDNS: [$DNS_SERVICE_IP]
resolvConf: $(node_resolv_conf)
podLogsDir: $STATE/pod-logs
volumePluginDir: $STATE/volume-plugins
maxPods: 110
serializeImagePulls: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 200Mi, nodefs.available: 2%, imagefs.available: 2%}
YAML
}

write_kube_proxy_config() {
  # No NodePorts towards the network; the kernel's connection tracking limits stay as they are.
  cat >"$CONFIG/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: $NODE_NAME
clusterCIDR: $POD_RANGE
nodePortAddresses: [127.0.0.0/8]
metricsBindAddress: 127.0.0.1:10249
healthzBindAddress: 127.0.0.1:10256
oomScoreAdj: 0
clientConnection: {kubeconfig: $PKI/kube-proxy.kubeconfig}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
}

write_registry_config() {
  mkdir -p "$REGISTRY_DATA"
  cat >"$CONFIG/registry.yaml" <<YAML
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: $REGISTRY_DATA}
  delete: {enabled: true}
http: {addr: "$REGISTRY"}
YAML
}

write_configuration() {
  mkdir -p "$CONFIG"
  write_containerd_config
  write_network_config
  write_kubelet_config
  write_kube_proxy_config
  write_registry_config
}
