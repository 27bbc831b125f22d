# shellcheck shell=bash
# The cluster's own images: each a program that `build` made (or Debian's busybox), in the local registry.

image_is_there() {
  local name=${1#*/}
  answers --head --header 'Accept: application/vnd.oci.image.manifest.v1+json' \
    "http://$REGISTRY/v2/${name%:*}/manifests/${name##*:}"
}

push_cluster_images() {
  local push=$CLUSTER_DIR/push-image
  image_is_there "$PAUSE_IMAGE" ||
    "$push" "$PAUSE_IMAGE" --file "$BIN/pause:/pause" --user 65535 --entrypoint /pause
  image_is_there "$COREDNS_IMAGE" ||
    "$push" "$COREDNS_IMAGE" --file "$BIN/coredns:/coredns" --user 65532 --entrypoint /coredns
  image_is_there "$STORAGE_IMAGE" ||
    "$push" "$STORAGE_IMAGE" --file "$BIN/local-path-provisioner:/local-path-provisioner" \
      --user 65532 --entrypoint /local-path-provisioner
  image_is_there "$HELPER_IMAGE" ||
    "$push" "$HELPER_IMAGE" --file /bin/busybox:/bin/busybox --entrypoint /bin/sh \
      --links /bin/busybox=sh,mkdir,rm,cat,ls,sleep,nc,nslookup,id,touch,httpd
}

# Fills the placeholders of the committed manifests.
cluster_manifests() {
  local file
  for file in "$CLUSTER_DIR"/manifests/*.yaml; do
    printf -- '---\n'
    cat "$file"
  done |
    sed -e "s|@COREDNS_IMAGE@|$COREDNS_IMAGE|" -e "s|@STORAGE_IMAGE@|$STORAGE_IMAGE|" \
      -e "s|@HELPER_IMAGE@|$HELPER_IMAGE|" -e "s|@DNS_SERVICE_IP@|$DNS_SERVICE_IP|" \
      -e "s|@VOLUMES@|$STATE/volumes|"
}
