{{/* The name of the chart, as labels have it. */}}
{{- define "queuelet.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
What every name begins with. 45 letters at most: behind them comes "-server", and the name of a StatefulSet is a label
of its Pods with 11 letters more, where a label ends at 63.
*/}}
{{- define "queuelet.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" }}
{{- else if contains (include "queuelet.name" .) .Release.Name }}
{{- .Release.Name | trunc 45 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "queuelet.name" .) | trunc 45 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "queuelet.server" -}}
{{ include "queuelet.fullname" . }}-server
{{- end }}

{{- define "queuelet.operator" -}}
{{ include "queuelet.fullname" . }}-operator
{{- end }}

{{/* The name of what belongs to no namespace. A colon divides, as no namespace and no release has one. */}}
{{- define "queuelet.clusterName" -}}
{{ .Release.Namespace }}:{{ include "queuelet.operator" . }}
{{- end }}

{{/* Where the server answers inside the cluster. */}}
{{- define "queuelet.serverAddress" -}}
{{ include "queuelet.server" . }}.{{ .Release.Namespace }}.svc:10002
{{- end }}

{{/* What Pods are found by: it can never change. Called with (list . "server"). */}}
{{- define "queuelet.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "queuelet.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The labels of every object. Called with (list . "server"). */}}
{{- define "queuelet.labels" -}}
{{- $root := index . 0 -}}
{{ include "queuelet.selectorLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: queuelet
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The labels and annotations of Pods. Called with (list . "server"). */}}
{{- define "queuelet.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $values := get $root.Values (index . 1) -}}
{{- with $values.podAnnotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{ end -}}
labels:
  {{- /* What Pods are found by comes last, so that no other label can take its place. */}}
  {{- $labels := merge (include "queuelet.selectorLabels" . | fromYaml) $values.podLabels (include "queuelet.labels" . | fromYaml) }}
  {{- /* A new release of the chart alone is no reason to start Pods anew. */}}
  {{- toYaml (omit $labels "helm.sh/chart") | nindent 2 }}
{{- end }}

{{/* An image. Called with (list . .Values.server.image). */}}
{{- define "queuelet.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* The name of a ServiceAccount. Called with (list . "server"). */}}
{{- define "queuelet.serviceAccountName" -}}
{{- $root := index . 0 -}}
{{- $account := (get $root.Values (index . 1)).serviceAccount -}}
{{- if $account.create -}}
{{ $account.name | default (include (printf "queuelet.%s" (index . 1)) $root) }}
{{- else -}}
{{ $account.name | default "default" }}
{{- end }}
{{- end }}

{{/* What both Pods have after their containers: where they run. Called with (list . "server"). */}}
{{- define "queuelet.scheduling" -}}
{{- $values := get (index . 0).Values (index . 1) -}}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* The Secret with the server's certificate. */}}
{{- define "queuelet.tlsSecret" -}}
{{ .Values.tls.secretName | default (printf "%s-tls" (include "queuelet.server" .)) }}
{{- end }}

{{/* The Secret with the authority of clients' certificates. cert-manager puts it beside each certificate. */}}
{{- define "queuelet.clientCASecret" -}}
{{ .Values.tls.mutual.caSecretName | default (include "queuelet.tlsSecret" .) }}
{{- end }}

{{/* The Secret with the operator's own certificate. */}}
{{- define "queuelet.operatorTlsSecret" -}}
{{ .Values.tls.mutual.operatorSecretName | default (printf "%s-tls" (include "queuelet.operator" .)) }}
{{- end }}

{{/* Refuse what the schema cannot: values that need each other. */}}
{{- define "queuelet.check" -}}
{{- with .Values.tls -}}
{{- if and .certManager.enabled (not .enabled) -}}
{{- fail "tls.certManager.enabled asks for certificates that nobody would use: set tls.enabled too" -}}
{{- end -}}
{{- if and .mutual.enabled (not .enabled) -}}
{{- fail "tls.mutual.enabled needs TLS: set tls.enabled too" -}}
{{- end -}}
{{- if and .certManager.enabled (not .certManager.issuerRef.name) -}}
{{- fail "tls.certManager.issuerRef.name is empty: name the Issuer that signs the certificates" -}}
{{- end -}}
{{- if and .enabled (not .certManager.enabled) -}}
{{- if not .secretName -}}
{{- fail "tls.secretName is empty: name the Secret with tls.crt, tls.key and ca.crt, or set tls.certManager.enabled" -}}
{{- end -}}
{{- if and .mutual.enabled (not .mutual.operatorSecretName) -}}
{{- fail "tls.mutual.operatorSecretName is empty: name the Secret with the operator's tls.crt and tls.key" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
Refuse an upgrade that the API server would refuse halfway, with a sentence that helps: a StatefulSet that is there never
gets other claims. Where Helm only renders, it sees none.
*/}}
{{- define "queuelet.checkVolume" -}}
{{- $there := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "queuelet.server" .) -}}
{{- if $there -}}
{{- $has := not (empty (dig "spec" "volumeClaimTemplates" list $there)) -}}
{{- if ne $has .Values.server.persistence.enabled -}}
{{- fail (printf "server.persistence.enabled cannot change while the StatefulSet is there: run `kubectl --namespace %s delete statefulset %s`, which stops the server, and upgrade again" .Release.Namespace (include "queuelet.server" .)) -}}
{{- end -}}
{{- end -}}
{{- end }}
