{{/* The name of the chart, for labels. */}}
{{- define "queuelet.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
The prefix of every name, at most 45 characters: "-server" is appended, and the label of a StatefulSet's Pods appends 11
more characters to its name, where a label may have 63.
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

{{/* The PersistentVolumeClaim of the server, named as a claim template would name it. */}}
{{- define "queuelet.claim" -}}
data-{{ include "queuelet.server" . }}-0
{{- end }}

{{/* Not empty if several servers share the queues of a database, or can. Then there are no Memory and Disk queues. */}}
{{- define "queuelet.isShared" -}}
{{- if or (gt (int .Values.server.replicas) 1) (gt (int .Values.server.shards) 1) -}}
yes
{{- end -}}
{{- end }}

{{/* The Cluster of CloudNativePG. */}}
{{- define "queuelet.database" -}}
{{ include "queuelet.fullname" . }}-db
{{- end }}

{{/* The Secret with the connection string of the database; empty without a database. */}}
{{- define "queuelet.postgresSecret" -}}
{{- if .Values.server.postgres.cluster.create -}}
{{ include "queuelet.database" . }}-app
{{- else -}}
{{ .Values.server.postgres.secretName }}
{{- end -}}
{{- end }}

{{/* The Secret with the CA of the database; empty to verify nothing. */}}
{{- define "queuelet.postgresCASecret" -}}
{{- if .Values.server.postgres.cluster.create -}}
{{ include "queuelet.database" . }}-ca
{{- else -}}
{{ .Values.server.postgres.caSecretName }}
{{- end -}}
{{- end }}

{{- define "queuelet.operator" -}}
{{ include "queuelet.fullname" . }}-operator
{{- end }}

{{/* The name of cluster-scoped objects. The separator is a colon, because neither namespaces nor releases contain one. */}}
{{- define "queuelet.clusterName" -}}
{{ .Release.Namespace }}:{{ include "queuelet.operator" . }}
{{- end }}

{{/* The address of the server inside the cluster. */}}
{{- define "queuelet.serverAddress" -}}
{{ include "queuelet.server" . }}.{{ .Release.Namespace }}.svc:10002
{{- end }}

{{/*
The names that the server accepts as the Host of HTTP requests, with a space between two. The server accepts the names
of its Service that have no dot or end in .svc or .local by itself. It must not accept <Service>.<namespace>, because
that may be a name that anyone can register, such as queuelet-server.dev.
*/}}
{{- define "queuelet.httpHosts" -}}
{{- $hosts := .Values.server.httpHosts -}}
{{- if .Values.http.enabled -}}
{{- with .Values.server.address -}}
{{- $hosts = append $hosts (regexReplaceAll ":[0-9]+$" . "") -}}
{{- end -}}
{{- if .Values.ingress.enabled -}}
{{- $hosts = concat $hosts .Values.ingress.hosts -}}
{{- end -}}
{{- if .Values.httpRoute.enabled -}}
{{- $hosts = concat $hosts .Values.httpRoute.hostnames -}}
{{- end -}}
{{- end -}}
{{- uniq $hosts | join " " -}}
{{- end }}

{{/*
Not empty if the console shows the conditions of Queues. Only with an account of the server's own, because all Pods of
the namespace have the account default.
*/}}
{{- define "queuelet.readsQueues" -}}
{{- $account := .Values.server.serviceAccount -}}
{{- if and .Values.http.enabled .Values.console.enabled .Values.console.queueObjects (or $account.create $account.name) -}}
yes
{{- end -}}
{{- end }}

{{/* The labels that select Pods; they can never change. Called with (list . "server"). */}}
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
  {{- /* The selector labels take precedence, so that no other label can replace them. */}}
  {{- $labels := merge (include "queuelet.selectorLabels" . | fromYaml) $values.podLabels (include "queuelet.labels" . | fromYaml) }}
  {{- /* Without helm.sh/chart, so that a new version of the chart alone does not restart Pods. */}}
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

{{/* The scheduling fields of a Pod. Called with (list . "server"). */}}
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

{{/* The Secret with the CA of client certificates. cert-manager stores it with each certificate. */}}
{{- define "queuelet.clientCASecret" -}}
{{ .Values.tls.mutual.caSecretName | default (include "queuelet.tlsSecret" .) }}
{{- end }}

{{/* The Secret with the operator's own certificate. */}}
{{- define "queuelet.operatorTlsSecret" -}}
{{ .Values.tls.mutual.operatorSecretName | default (printf "%s-tls" (include "queuelet.operator" .)) }}
{{- end }}

{{/* Fails for combinations of values that the schema cannot refuse. */}}
{{- define "queuelet.check" -}}
{{- if and .Values.auth.tokenSecretName (not .Values.tls.enabled) (not .Values.auth.insecure) -}}
{{- fail "auth.tokenSecretName: the token would be sent in plain text; set tls.enabled, or auth.insecure if you trust the network" -}}
{{- end -}}
{{- range $name, $names := dict "ingress" "hosts" "httpRoute" "hostnames" -}}
{{- $wanted := get $.Values $name -}}
{{- if $wanted.enabled -}}
{{- if not $.Values.http.enabled -}}
{{- fail (printf "%s.enabled: the server has no port for it; set http.enabled too" $name) -}}
{{- end -}}
{{- if not $.Values.auth.tokenSecretName -}}
{{- fail (printf "%s.enabled: everyone who reaches it could read and delete all messages; set auth.tokenSecretName too" $name) -}}
{{- end -}}
{{- if not (get $wanted $names) -}}
{{- fail (printf "%s.%s: it is empty; set it to the DNS names of the console" $name $names) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs: it is empty; set it to the Gateways of the HTTPRoute" -}}
{{- end -}}
{{- if include "queuelet.isShared" . -}}
{{- $which := ternary "replicas" "shards" (gt (int .Values.server.replicas) 1) -}}
{{- if not (include "queuelet.postgresSecret" .) -}}
{{- fail (printf "server.%s: several servers share queues only in a database; set server.postgres.secretName or server.postgres.cluster.create too" $which) -}}
{{- end -}}
{{- if .Values.server.persistence.enabled -}}
{{- fail (printf "server.%s: several servers have no Disk queues; move their messages with `queuelet move`, and set server.persistence.enabled to false" $which) -}}
{{- end -}}
{{- end -}}
{{- with .Values.server.postgres -}}
{{- if and .cluster.create (or .secretName .caSecretName) -}}
{{- fail "server.postgres.cluster.create: the new database has Secrets of its own; leave server.postgres.secretName and caSecretName empty" -}}
{{- end -}}
{{- if and .caSecretName (not .secretName) -}}
{{- fail "server.postgres.caSecretName: there is no database whose certificate to verify; set server.postgres.secretName too" -}}
{{- end -}}
{{- if hasPrefix "pg_" .schema -}}
{{- fail (printf "server.postgres.schema: %s is not allowed, because PostgreSQL reserves names that begin with pg_; use another one, such as queuelet" .schema) -}}
{{- end -}}
{{- end -}}
{{- with .Values.tls -}}
{{- if and .certManager.enabled (not .enabled) -}}
{{- fail "tls.certManager.enabled: the certificates would not be used without TLS; set tls.enabled too" -}}
{{- end -}}
{{- if and .mutual.enabled (not .enabled) -}}
{{- fail "tls.mutual.enabled: mutual TLS needs TLS; set tls.enabled too" -}}
{{- end -}}
{{- if and .certManager.enabled (not .certManager.issuerRef.name) -}}
{{- fail "tls.certManager.issuerRef.name: it is empty; set it to the Issuer that signs the certificates" -}}
{{- end -}}
{{- if and .enabled (not .certManager.enabled) -}}
{{- if not .secretName -}}
{{- fail "tls.secretName: it is empty; set it to the Secret with tls.crt, tls.key and ca.crt, or set tls.certManager.enabled" -}}
{{- end -}}
{{- if and .mutual.enabled (not .mutual.operatorSecretName) -}}
{{- fail "tls.mutual.operatorSecretName: it is empty; set it to the Secret with the operator's tls.crt and tls.key" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
Fails with a helpful message for changes of the volume that the API server would refuse in the middle of an upgrade. If
Helm only renders, lookup finds nothing, and the API server decides.
*/}}
{{- define "queuelet.checkVolume" -}}
{{- $wanted := .Values.server.persistence -}}
{{- $name := include "queuelet.claim" . -}}
{{- if $wanted.enabled -}}
{{- with lookup "v1" "PersistentVolumeClaim" .Release.Namespace $name -}}
{{- $move := "or move the messages to another volume as the chart's README describes" -}}
{{- $mode := first .spec.accessModes -}}
{{- if ne $mode $wanted.accessMode -}}
{{- fail (printf "server.persistence.accessMode: PersistentVolumeClaim %s has %s, which cannot change; set it to %s, %s" $name $mode $mode $move) -}}
{{- end -}}
{{- $class := dig "spec" "storageClassName" "" . -}}
{{- $cannot := printf "server.persistence.storageClassName: PersistentVolumeClaim %s has %s, which cannot change; set it to %s, %s" $name $class $class $move -}}
{{- if and $wanted.storageClassName $class (ne $class $wanted.storageClassName) -}}
{{- fail $cannot -}}
{{- end -}}
{{- /* Removing a class that this release set is a change too. A class that the API server set by default has no owner. */ -}}
{{- if not $wanted.storageClassName -}}
{{- range .metadata.managedFields -}}
{{- if dig "fieldsV1" "f:spec" "f:storageClassName" nil . | kindIs "map" -}}
{{- fail $cannot -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $size := .spec.resources.requests.storage -}}
{{- $from := include "queuelet.bytes" $size -}}
{{- $to := include "queuelet.bytes" $wanted.size -}}
{{- if and $from (lt (float64 $to) (float64 $from)) -}}
{{- fail (printf "server.persistence.size: PersistentVolumeClaim %s asks for %s, and a volume cannot shrink; set it to %s or more, %s" $name $size $size $move) -}}
{{- end -}}
{{- if and $from (gt (float64 $to) (float64 $from)) (eq (dig "status" "phase" "" .) "Pending") -}}
{{- fail (printf "server.persistence.size: PersistentVolumeClaim %s has no volume yet, and until then its size cannot change; run `kubectl --namespace %s delete pvc %s`, which loses no message, and upgrade again" $name $.Release.Namespace $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Converts a quantity to a number of bytes; empty for a unit that the schema of the values does not allow. */}}
{{- define "queuelet.bytes" -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 -}}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" . -}}
{{- $unit := trimPrefix $number . -}}
{{- if and $number (hasKey $units $unit) -}}
{{- mulf $number (get $units $unit) -}}
{{- end -}}
{{- end }}
