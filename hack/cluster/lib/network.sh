# shellcheck shell=bash
# The host's side of the pod network: our own nft table, and the removal of what the components left.

prepare_network() {
  modprobe br_netfilter 2>/dev/null || true # built into some kernels
  # Without the first, traffic between two pods on the bridge passes by Services and NetworkPolicies.
  local setting
  for setting in bridge.bridge-nf-call-iptables=1 ipv4.ip_forward=1; do
    sysctl -qw "net.$setting" || fail "cannot set net.$setting"
  done
  # Addresses of pods and Services mean nothing outside: never let them out by an uplink (a Service
  # address without kube-proxy would go there). Pods reach the outside by the node's address.
  nft -f - <<NFT
table inet $NFT_TABLE {
  chain stay_inside {
    type filter hook postrouting priority filter; policy accept;
    oifname != { "$BRIDGE", "lo" } ip daddr { $POD_RANGE, $SERVICE_RANGE } drop
  }
  chain pods_to_outside {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr $POD_RANGE ip daddr != $POD_RANGE oifname != "$BRIDGE" masquerade
  }
}
NFT
}

# Takes the chains of kube-router and of the portmap plugin, and the jumps to them, out of iptables.
remove_iptables_chains() {
  local version=$1 table rules ours='KUBE-|CNI-'
  command -v "$version-save" >/dev/null || return 0
  for table in filter nat mangle raw; do
    rules=$("$version-save" -t "$table" 2>/dev/null) || continue
    grep -qE "$ours" <<<"$rules" || continue
    grep -vE "$ours" <<<"$rules" | "$version-restore" -T "$table"
    remove_empty_table "$version" "$table"
  done
}

# iptables on nft makes the tables when it is first asked; without a rule in them they do nothing.
remove_empty_table() {
  local family=ip table=$2
  [ "$1" = iptables ] || family=ip6
  if ! nft list table "$family" "$table" 2>/dev/null |
    grep -vE '^table|^\s*(chain|type)|^\s*}|^\s*$|policy accept;' | grep -q .; then
    nft delete table "$family" "$table" 2>/dev/null || true
  fi
}

remove_ipsets() {
  local name
  command -v ipset >/dev/null || return 0
  for name in $(ipset list -n 2>/dev/null | grep -E '^(inet6:)?(KUBE-|kube-router-)' || true); do
    ipset destroy "$name" || say "ipset $name is still in use by a rule that is not the cluster's"
  done
}

remove_network() {
  local link table
  for link in $(ip -o link show master "$BRIDGE" 2>/dev/null | awk -F'[ :@]+' '{print $2}'); do
    ip link delete "$link" 2>/dev/null || true # gone already with its other end
  done
  ip link delete "$BRIDGE" 2>/dev/null || true

  if command -v nft >/dev/null; then
    for table in "inet $NFT_TABLE" 'ip kube-proxy' 'ip6 kube-proxy'; do
      # shellcheck disable=SC2086 # family and name are two words
      nft delete table $table 2>/dev/null || true
    done
  fi
  remove_iptables_chains iptables
  remove_iptables_chains ip6tables
  remove_ipsets
}
