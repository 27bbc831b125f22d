# shellcheck shell=bash
# Certificates and kubeconfigs, made anew at each start: the node's address may have changed.

PKI=$STATE/pki
CERTIFICATE_DAYS=365

# One call makes key, request and certificate; elliptic curves, because RSA keys cost seconds.
issue() {
  local file=$1 subject=$2 usage=$3 names=${4:-} authority=${5:-ca}
  local extensions=(-addext "keyUsage=critical,digitalSignature" -addext "extendedKeyUsage=$usage"
    -addext "basicConstraints=critical,CA:FALSE")
  [ -z "$names" ] || extensions+=(-addext "subjectAltName=$names")
  openssl req -x509 -CA "$PKI/$authority.crt" -CAkey "$PKI/$authority.key" \
    -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days "$CERTIFICATE_DAYS" -subj "$subject" \
    "${extensions[@]}" -keyout "$PKI/$file.key" -out "$PKI/$file.crt" 2>/dev/null
}

authority() {
  local file=$1
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc \
    -days "$CERTIFICATE_DAYS" -subj "/CN=openmodel-cluster-$file" \
    -addext "keyUsage=critical,keyCertSign,cRLSign,digitalSignature" \
    -keyout "$PKI/$file.key" -out "$PKI/$file.crt" 2>/dev/null
}

kubeconfig() {
  local file=$1 certificate=$2
  cat >"$file" <<YAML
apiVersion: v1
kind: Config
current-context: openmodel
contexts:
- name: openmodel
  context: {cluster: openmodel, user: $certificate}
clusters:
- name: openmodel
  cluster:
    server: https://127.0.0.1:$API_PORT
    certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
users:
- name: $certificate
  user:
    client-certificate-data: $(base64 -w0 "$PKI/$certificate.crt")
    client-key-data: $(base64 -w0 "$PKI/$certificate.key")
YAML
}

make_certificates() {
  local node_ip=$1 user
  mkdir -p "$PKI"
  authority ca
  authority front-proxy-ca
  local api_names=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc
  api_names+=,DNS:kubernetes.default.svc.cluster.local,DNS:localhost
  api_names+=,IP:127.0.0.1,IP:$API_SERVICE_IP,IP:$node_ip
  issue apiserver /CN=kube-apiserver serverAuth "$api_names"
  issue apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  issue front-proxy-client /CN=front-proxy-client clientAuth '' front-proxy-ca
  issue kubelet-server "/CN=$NODE_NAME" serverAuth "DNS:$NODE_NAME,IP:$node_ip,IP:127.0.0.1"
  issue admin /O=system:masters/CN=openmodel-admin clientAuth
  issue kubelet "/O=system:nodes/CN=system:node:$NODE_NAME" clientAuth
  for user in kube-controller-manager kube-scheduler kube-proxy kube-router; do
    issue "$user" "/CN=system:$user" clientAuth
  done
  openssl ecparam -genkey -name prime256v1 -noout -out "$PKI/service-accounts.key"

  for user in kubelet kube-controller-manager kube-scheduler kube-proxy kube-router; do
    kubeconfig "$PKI/$user.kubeconfig" "$user"
  done
  kubeconfig "$KUBECONFIG_ADMIN" admin
}
