{{- /* The objects of ../kubernetes are the source of each object here: files/ leads to them, and a test compares what both
render. A template reads a document, merges the values into it and writes it. */ -}}

{{- define "processor.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- /* dict "object" OBJECT: the object with the labels that every object has. */ -}}
{{- define "processor.labelled" -}}
{{- $name := dict "app.kubernetes.io/name" "hakuna-processor" -}}
{{- $labels := mustMergeOverwrite (deepCopy (.object.metadata.labels | default dict)) $name -}}
{{- $_ := set .object.metadata "labels" $labels -}}
{{- toYaml .object -}}
{{- end -}}

{{- /* dict "root" . "pod" PODSPEC "user" USER: image, settings, secrets and authority of the first container. */ -}}
{{- define "processor.pod" -}}
{{- $values := .root.Values -}}
{{- $pod := .pod -}}
{{- $container := first $pod.containers -}}
{{- $_ := set $container "image" (include "processor.image" .root) -}}
{{- $settings := dict "configMapRef" (dict "name" (include "processor.settings.name" .root)) -}}
{{- $user := dict "secretRef" (dict "name" (printf "%s%s" $values.secrets.kafkaPrefix .user) "optional" true) -}}
{{- $_ := set $container "envFrom" (list $settings $user) -}}
{{- range $volume := $pod.volumes -}}
{{- if eq $volume.name "hakuna-api-key" }}{{ $_ := set $volume.secret "secretName" $values.secrets.hakunaApiKey }}{{ end -}}
{{- if eq $volume.name "hako-api-key" }}{{ $_ := set $volume.secret "secretName" $values.secrets.hakoApiKey }}{{ end -}}
{{- end -}}
{{- with $values.secrets.kafkaCa -}}
{{- $mount := dict "name" "kafka-ca" "mountPath" "/etc/hakuna-processor/kafka-ca" "readOnly" true -}}
{{- $_ := set $container "volumeMounts" (prepend ($container.volumeMounts | default list) $mount) -}}
{{- $volume := dict "name" "kafka-ca" "secret" (dict "secretName" . "optional" true) -}}
{{- $_ := set $pod "volumes" (prepend ($pod.volumes | default list) $volume) -}}
{{- end -}}
{{- with $values.image.pullSecrets -}}
{{- $names := list -}}
{{- range . }}{{ $names = append $names (dict "name" .) }}{{ end -}}
{{- $_ := set $pod "imagePullSecrets" $names -}}
{{- end -}}
{{- $_ := set $pod "containers" (list $container) -}}
{{- toYaml $pod -}}
{{- end -}}

{{- /* dict "patch" PATCH "pod" PODSPEC: both, and their one container merged. */ -}}
{{- define "processor.patched" -}}
{{- $container := mustMergeOverwrite (deepCopy (first .patch.containers)) (first .pod.containers) -}}
{{- $pod := mustMergeOverwrite (deepCopy .patch) (deepCopy .pod) -}}
{{- $_ := set $pod "containers" (list $container) -}}
{{- toYaml $pod -}}
{{- end -}}

{{- define "processor.settings" -}}
{{- range $line := splitList "\n" (.Files.Get "files/base/settings.env") -}}
{{- if contains "=" $line }}
{{ (splitn "=" 2 $line)._0 }}: {{ (splitn "=" 2 $line)._1 | quote }}
{{- end -}}
{{- end -}}
{{- range $name, $value := .Values.settings }}
{{ $name }}: {{ $value | toString | quote }}
{{- end -}}
{{- end -}}

{{- /* A change of settings is a rollout: the name holds their digest. */ -}}
{{- define "processor.settings.name" -}}
settings-{{ include "processor.settings" . | sha256sum | trunc 10 }}
{{- end -}}
