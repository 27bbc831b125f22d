{{- define "openmodel.selector" -}}
app.kubernetes.io/name: openmodel-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "openmodel.labels" -}}
{{ include "openmodel.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: openmodel
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
