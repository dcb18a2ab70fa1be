{{/* The Pods of the server, as the template of a StatefulSet or a Deployment. It is indented for both. */}}
{{- define "queuelet.serverPod" }}
{{- $server := .Values.server }}
{{- $readsQueues := include "queuelet.readsQueues" . }}
{{- $isShared := include "queuelet.isShared" . }}
{{- $postgres := include "queuelet.postgresSecret" . }}
{{- $postgresCA := include "queuelet.postgresCASecret" . }}
    metadata:
      {{- include "queuelet.podMetadata" (list . "server") | nindent 6 }}
    spec:
      serviceAccountName: {{ include "queuelet.serviceAccountName" (list . "server") }}
      # If the console reads Queues, there is a volume with the token instead, which can be left out.
      automountServiceAccountToken: false
      # The environment variables for a Service named queuelet-server, such as QUEUELET_SERVER_PORT, would be read as flags.
      enableServiceLinks: false
      {{- with .Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        {{- toYaml .Values.podSecurityContext | nindent 8 }}
      # On SIGTERM the server drains by itself, within its grace period and a little more.
      terminationGracePeriodSeconds: {{ add (int $server.graceSeconds) (ternary 15 10 (ne $isShared "")) }}
      containers:
        - name: server
          image: {{ include "queuelet.image" (list . $server.image) }}
          imagePullPolicy: {{ $server.image.pullPolicy }}
          args:
            # A flag, because an empty environment variable would be as none, and the default is a port on loopback.
            - --http={{ ternary ":8080" "" .Values.http.enabled }}
            {{- with $server.extraArgs }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          env:
            - name: QUEUELET_SERVER_LISTEN
              value: ":10002"
            - name: QUEUELET_SERVER_METRICS
              value: ":10003"
            - name: QUEUELET_SERVER_GRACE
              value: {{ $server.graceSeconds | quote }}
            - name: QUEUELET_SERVER_MEMORY_WATERMARK
              value: {{ $server.memoryWatermark | quote }}
            {{- with $server.bounds }}
            - name: QUEUELET_SERVER_MAX_CONNECTIONS
              value: {{ int .connections | quote }}
            - name: QUEUELET_SERVER_MAX_STREAMS
              value: {{ int .streams | quote }}
            - name: QUEUELET_SERVER_MAX_INCOMING_BYTES
              value: {{ .incomingBytes | quote }}
            - name: QUEUELET_SERVER_HISTORY_BYTES
              value: {{ .historyBytes | quote }}
            - name: QUEUELET_SERVER_REQUEST_TIMEOUT
              value: {{ int .requestTimeoutSeconds | quote }}
            - name: QUEUELET_SERVER_MAX_WAITING
              value: {{ int .waiting | quote }}
            - name: QUEUELET_SERVER_MAX_WAITING_PER_PEER
              value: {{ int .waitingPerPeer | quote }}
            - name: QUEUELET_SERVER_MAX_HTTP_CONNECTIONS
              value: {{ int .httpConnections | quote }}
            - name: QUEUELET_SERVER_HTTP_TIMEOUT
              value: {{ int .httpTimeoutSeconds | quote }}
            - name: QUEUELET_SERVER_LONG_WORK_SHARE
              value: {{ .longWorkShare | quote }}
            {{- end }}
            {{- if $server.persistence.enabled }}
            - name: QUEUELET_SERVER_DATA_DIR
              value: /data
            {{- end }}
            {{- if $postgres }}
            # A file, because it is read again when a password changes, and because others may read the environment.
            - name: QUEUELET_SERVER_POSTGRES_FILE
              value: /etc/queuelet/postgres/uri
            - name: QUEUELET_SERVER_POSTGRES_SCHEMA
              value: {{ $server.postgres.schema | quote }}
            {{- if $postgresCA }}
            # Those of libpq. A connection string that has sslmode or sslrootcert takes precedence.
            - name: PGSSLMODE
              value: verify-full
            - name: PGSSLROOTCERT
              value: /etc/queuelet/postgres-ca/ca.crt
            {{- end }}
            {{- end }}
            {{- if $isShared }}
            - name: POD_IP
              valueFrom:
                fieldRef:
                  fieldPath: status.podIP
            # How the other servers reach this one. It also makes the server share the queues with them.
            - name: QUEUELET_SERVER_ADVERTISE
              value: $(POD_IP):10002
            - name: QUEUELET_SERVER_SHARDS
              value: {{ int $server.shards | quote }}
            {{- end }}
            {{- with $server.metricsTags }}
            - name: QUEUELET_SERVER_METRICS_TAG
              value: {{ join " " . | quote }}
            {{- end }}
            {{- with include "queuelet.httpHosts" . }}
            - name: QUEUELET_SERVER_HTTP_HOSTS
              value: {{ . | quote }}
            {{- end }}
            {{- if .Values.http.enabled }}
            {{- if not .Values.console.enabled }}
            - name: QUEUELET_SERVER_NO_CONSOLE
              value: "true"
            {{- end }}
            {{- if .Values.console.hidePayloads }}
            - name: QUEUELET_SERVER_HIDE_PAYLOADS
              value: "true"
            {{- end }}
            {{- end }}
            {{- if $readsQueues }}
            - name: QUEUELET_SERVER_QUEUE_OBJECTS
              value: /etc/queuelet/account
            - name: QUEUELET_SERVER_QUEUE_OBJECTS_CLASS
              value: {{ .Values.operator.queueClassName | quote }}
            {{- with .Values.operator.namespaces }}
            - name: QUEUELET_SERVER_QUEUE_OBJECTS_NAMESPACE
              value: {{ join " " . | quote }}
            {{- end }}
            {{- end }}
            {{- if $server.debug }}
            - name: QUEUELET_SERVER_DEBUG
              value: "true"
            {{- end }}
            {{- if .Values.tls.enabled }}
            - name: QUEUELET_SERVER_TLS_CERT
              value: /etc/queuelet/tls/tls.crt
            - name: QUEUELET_SERVER_TLS_KEY
              value: /etc/queuelet/tls/tls.key
            {{- if .Values.tls.mutual.enabled }}
            - name: QUEUELET_SERVER_TLS_CLIENT_CA
              value: /etc/queuelet/client-ca/ca.crt
            {{- end }}
            {{- if $isShared }}
            # Servers call each other by IP addresses, which are not in the certificate.
            - name: QUEUELET_SERVER_PEER_TLS_CA
              value: /etc/queuelet/tls/ca.crt
            - name: QUEUELET_SERVER_PEER_TLS_NAME
              value: {{ include "queuelet.server" . }}.{{ .Release.Namespace }}.svc
            {{- end }}
            {{- end }}
            {{- if .Values.auth.tokenSecretName }}
            - name: QUEUELET_SERVER_TOKEN_FILE
              value: /etc/queuelet/auth/token
            {{- end }}
            {{- with $server.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - name: grpc
              containerPort: 10002
            - name: metrics
              containerPort: 10003
            {{- if .Values.http.enabled }}
            - name: http
              containerPort: 8080
            {{- end }}
          {{- if $isShared }}
          lifecycle:
            preStop:
              # Until no new connection comes here. Then the server hands its queues over to the others.
              exec:
                command: [sleep, "5"]
          {{- end }}
          # The probes use plain HTTP even with TLS, because only the gRPC port has certificates.
          startupProbe:
            httpGet:
              path: /readyz
              port: metrics
            periodSeconds: 1
            failureThreshold: 60
          livenessProbe:
            httpGet:
              path: /healthz
              port: metrics
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet:
              path: /readyz
              port: metrics
            periodSeconds: 5
            timeoutSeconds: 3
          {{- with $server.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          securityContext:
            {{- toYaml .Values.securityContext | nindent 12 }}
          {{- if or .Values.tls.enabled .Values.auth.tokenSecretName $server.persistence.enabled $postgres $readsQueues }}
          volumeMounts:
            {{- if $server.persistence.enabled }}
            - name: data
              mountPath: /data
            {{- end }}
            {{- /* Whole directories, because a file mounted by subPath is not updated with its Secret. */}}
            {{- if .Values.tls.enabled }}
            - name: tls
              mountPath: /etc/queuelet/tls
              readOnly: true
            {{- if .Values.tls.mutual.enabled }}
            - name: client-ca
              mountPath: /etc/queuelet/client-ca
              readOnly: true
            {{- end }}
            {{- end }}
            {{- if .Values.auth.tokenSecretName }}
            - name: auth
              mountPath: /etc/queuelet/auth
              readOnly: true
            {{- end }}
            {{- if $postgres }}
            - name: postgres
              mountPath: /etc/queuelet/postgres
              readOnly: true
            {{- if $postgresCA }}
            - name: postgres-ca
              mountPath: /etc/queuelet/postgres-ca
              readOnly: true
            {{- end }}
            {{- end }}
            {{- if $readsQueues }}
            - name: account
              mountPath: /etc/queuelet/account
              readOnly: true
            {{- end }}
          {{- end }}
      {{- if or .Values.tls.enabled .Values.auth.tokenSecretName $server.persistence.enabled $postgres $readsQueues }}
      volumes:
        {{- if $server.persistence.enabled }}
        - name: data
          persistentVolumeClaim:
            claimName: {{ include "queuelet.claim" . }}
        {{- end }}
        {{- if .Values.tls.enabled }}
        - name: tls
          secret:
            secretName: {{ include "queuelet.tlsSecret" . }}
            defaultMode: 0440
            items:
              - key: tls.crt
                path: tls.crt
              - key: tls.key
                path: tls.key
              {{- if $isShared }}
              - key: ca.crt
                path: ca.crt
              {{- end }}
        {{- if .Values.tls.mutual.enabled }}
        - name: client-ca
          secret:
            secretName: {{ include "queuelet.clientCASecret" . }}
            defaultMode: 0440
            items:
              - key: ca.crt
                path: ca.crt
        {{- end }}
        {{- end }}
        {{- with .Values.auth.tokenSecretName }}
        - name: auth
          secret:
            secretName: {{ . }}
            defaultMode: 0440
            items:
              - key: token
                path: token
        {{- end }}
        {{- if $postgres }}
        - name: postgres
          secret:
            secretName: {{ $postgres }}
            defaultMode: 0440
            items:
              - key: {{ $server.postgres.secretKey | quote }}
                path: uri
        {{- if $postgresCA }}
        - name: postgres-ca
          secret:
            secretName: {{ $postgresCA }}
            defaultMode: 0440
            items:
              - key: ca.crt
                path: ca.crt
        {{- end }}
        {{- end }}
        {{- if $readsQueues }}
        - name: account
          projected:
            defaultMode: 0440
            sources:
              - serviceAccountToken:
                  path: token
                  expirationSeconds: 3607
              - configMap:
                  name: kube-root-ca.crt
                  items:
                    - key: ca.crt
                      path: ca.crt
        {{- end }}
      {{- end }}
      {{- include "queuelet.scheduling" (list . "server") | nindent 6 }}
      {{- if $isShared }}
      topologySpreadConstraints:
        {{- with $server.topologySpreadConstraints }}
        {{- toYaml . | nindent 8 }}
        {{- else }}
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          matchLabelKeys: [pod-template-hash]
          labelSelector:
            matchLabels:
              {{- include "queuelet.selectorLabels" (list . "server") | nindent 14 }}
        {{- end }}
      {{- end }}
{{- end }}
