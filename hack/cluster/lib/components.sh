# shellcheck shell=bash disable=SC2034,SC2054  # COMMAND is the caller's; commas belong to the values
# Each component's command line and its proof of readiness; `up` and `restart` use the same.

# Sets COMMAND to the command line of one component.
component_command() {
  case $1 in
    registry) COMMAND=(docker-registry serve "$CONFIG/registry.yaml") ;;
    etcd)
      # A development cluster starts with fresh data: nothing is lost by not waiting for the disk.
      COMMAND=(etcd --name "$NODE_NAME" --data-dir "$STATE/etcd" --unsafe-no-fsync
        "--listen-client-urls=http://127.0.0.1:$ETCD_PORT"
        "--advertise-client-urls=http://127.0.0.1:$ETCD_PORT"
        "--listen-peer-urls=http://127.0.0.1:$ETCD_PEER_PORT"
        "--initial-advertise-peer-urls=http://127.0.0.1:$ETCD_PEER_PORT"
        "--initial-cluster=$NODE_NAME=http://127.0.0.1:$ETCD_PEER_PORT")
      ;;
    containerd) COMMAND=(containerd --config "$CONFIG/containerd.toml") ;;
    kube-apiserver) apiserver_command ;;
    kube-controller-manager)
      COMMAND=(kube-controller-manager "--kubeconfig=$PKI/kube-controller-manager.kubeconfig"
        "--authentication-kubeconfig=$PKI/kube-controller-manager.kubeconfig"
        "--authorization-kubeconfig=$PKI/kube-controller-manager.kubeconfig"
        --bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials
        # The default limits (20 a second) make its start take four seconds longer.
        "--kube-api-qps=${OPENMODEL_CONTROLLER_QPS:-200}" "--kube-api-burst=${OPENMODEL_CONTROLLER_BURST:-400}"
        --allocate-node-cidrs "--cluster-cidr=$POD_RANGE" --node-cidr-mask-size=24
        "--service-cluster-ip-range=$SERVICE_RANGE" "--root-ca-file=$PKI/ca.crt"
        "--service-account-private-key-file=$PKI/service-accounts.key"
        "--cluster-signing-cert-file=$PKI/ca.crt" "--cluster-signing-key-file=$PKI/ca.key"
        "--requestheader-client-ca-file=$PKI/front-proxy-ca.crt"
        "--flex-volume-plugin-dir=$STATE/volume-plugins")
      ;;
    kube-scheduler)
      COMMAND=(kube-scheduler "--kubeconfig=$PKI/kube-scheduler.kubeconfig"
        "--authentication-kubeconfig=$PKI/kube-scheduler.kubeconfig"
        "--authorization-kubeconfig=$PKI/kube-scheduler.kubeconfig"
        --bind-address=127.0.0.1 --leader-elect=false)
      ;;
    kubelet)
      COMMAND=(kubelet "--config=$CONFIG/kubelet.yaml" "--kubeconfig=$PKI/kubelet.kubeconfig"
        "--root-dir=$STATE/kubelet" "--cert-dir=$STATE/kubelet/pki"
        "--hostname-override=$NODE_NAME" "--node-ip=$(<"$STATE/node-ip")")
      ;;
    kube-proxy) COMMAND=(kube-proxy "--config=$CONFIG/kube-proxy.yaml") ;;
    kube-router)
      # NetworkPolicy only; the bridge plugin routes and kube-proxy serves the Services.
      COMMAND=(kube-router "--kubeconfig=$PKI/kube-router.kubeconfig"
        "--hostname-override=$NODE_NAME" --run-firewall=true --run-router=false
        --run-service-proxy=false "--service-cluster-ip-range=$SERVICE_RANGE"
        --metrics-port=0 --health-port=20244)
      ;;
    *) fail "no component '$1'; there are: ${COMPONENTS[*]}" ;;
  esac
}

apiserver_command() {
  # The last seven lines are for aggregated APIs (metrics-server, KEDA's adapter).
  COMMAND=(kube-apiserver "--advertise-address=$(<"$STATE/node-ip")" "--secure-port=$API_PORT"
    "--etcd-servers=http://127.0.0.1:$ETCD_PORT" "--service-cluster-ip-range=$SERVICE_RANGE"
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction
    --allow-privileged=true --client-ca-file="$PKI/ca.crt"
    "--tls-cert-file=$PKI/apiserver.crt" "--tls-private-key-file=$PKI/apiserver.key"
    --service-account-issuer=https://kubernetes.default.svc
    "--service-account-key-file=$PKI/service-accounts.key"
    "--service-account-signing-key-file=$PKI/service-accounts.key"
    "--kubelet-certificate-authority=$PKI/ca.crt"
    "--kubelet-client-certificate=$PKI/apiserver-kubelet-client.crt"
    "--kubelet-client-key=$PKI/apiserver-kubelet-client.key"
    --kubelet-preferred-address-types=InternalIP
    --enable-aggregator-routing=true
    "--proxy-client-cert-file=$PKI/front-proxy-client.crt"
    "--proxy-client-key-file=$PKI/front-proxy-client.key"
    "--requestheader-client-ca-file=$PKI/front-proxy-ca.crt"
    --requestheader-allowed-names=front-proxy-client
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group
    --requestheader-extra-headers-prefix=X-Remote-Extra-)
}

answers() {
  curl --silent --fail --output /dev/null --max-time 2 "$@"
}

# True once the component answers as ready.
component_ready() {
  case $1 in
    registry) answers "http://$REGISTRY/v2/" ;;
    etcd) answers "http://127.0.0.1:$ETCD_PORT/readyz" ;;
    containerd) ctr --address "$CONTAINERD_SOCKET" --connect-timeout 1s version >/dev/null 2>&1 ;;
    kube-apiserver)
      answers --cacert "$PKI/ca.crt" --cert "$PKI/admin.crt" --key "$PKI/admin.key" \
        "https://127.0.0.1:$API_PORT/readyz"
      ;;
    # Their serving certificates are their own; only the state is asked for here.
    kube-controller-manager) answers --insecure https://127.0.0.1:10257/healthz ;;
    kube-scheduler) answers --insecure https://127.0.0.1:10259/healthz ;;
    kubelet) answers http://127.0.0.1:10248/healthz ;;
    kube-proxy) answers http://127.0.0.1:10256/healthz ;;
    kube-router) answers http://127.0.0.1:20244/healthz ;;
    *) fail "no component '$1'; there are: ${COMPONENTS[*]}" ;;
  esac
}
