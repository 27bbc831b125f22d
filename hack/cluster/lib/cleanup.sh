# shellcheck shell=bash
# Taking the cluster down from any state, whole or half: `down` does it, and `up` before a fresh start.
# What stays: containerd's unpacked images and the registry's data. containerd also remembers the
# containers that are gone; the next kubelet does not know them and removes them in its first minute.

unmount_all() {
  local point
  # The newest mount first: it may lie inside an older one.
  while read -r point; do
    umount --lazy -- "$(printf '%b' "$point")" 2>/dev/null || true # its parent took it along
  done < <(awk -v state="$STATE/" -v run="$RUN/" \
    'index($5, state) == 1 || index($5, run) == 1 {print $5}' /proc/self/mountinfo | tac)
}

# The sockets of shims lie in a folder that every containerd on the machine shares. Those on which
# nobody listens any more are of no use to anyone.
remove_shim_sockets() {
  local socket
  for socket in /run/containerd/s/*; do
    [ -S "$socket" ] || continue
    grep -qF "$socket" /proc/net/unix || rm -f "$socket"
  done
  rmdir /run/containerd/s /run/containerd 2>/dev/null || true
}

remove_control_groups() {
  find /sys/fs/cgroup -depth -type d \( -path "*/$CGROUP" -o -path "*/$CGROUP/*" \) \
    -exec rmdir {} + 2>/dev/null || true
}

remove_state() {
  local entry
  rm -rf --one-file-system "$RUN"
  [ -d "$STATE" ] || return 0
  for entry in "$STATE"/* "$STATE"/.[!.]*; do
    case $entry in
      "$STATE/containerd" | "$STATE/logs") ;;
      *) rm -rf --one-file-system "$entry" ;;
    esac
  done
  # The library that calls the network plugins notes its calls here, whatever its configuration says.
  { grep -lsF "$RUN/" /var/lib/cni/results/* || true; } | xargs -r rm -f
  rmdir /var/lib/cni/results /var/lib/cni 2>/dev/null || true
}

clean() {
  end_all_processes
  unmount_all
  remove_shim_sockets
  remove_network
  remove_control_groups
  remove_state
}
