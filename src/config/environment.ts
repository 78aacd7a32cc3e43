/** The environment: whether it asks for traces. The SDK itself reads the other variables of OpenTelemetry. */

export interface TracesConfig {
  /** Undefined if the variables name this service. */
  readonly serviceName: string | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Any of these asks for traces. */
const ASK_FOR_TRACES = [
  'OTEL_EXPORTER_OTLP_ENDPOINT',
  'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT',
  'OTEL_TRACES_EXPORTER',
] as const;

/** Undefined if there are no traces. */
export function tracesIn(environment: Environment): TracesConfig | undefined {
  const isDisabled = environment['OTEL_SDK_DISABLED']?.trim().toLowerCase() === 'true';
  const isAsked = ASK_FOR_TRACES.some((name) => (environment[name] ?? '') !== '');
  if (isDisabled || !isAsked || environment['OTEL_TRACES_EXPORTER'] === 'none') return undefined;
  const isNamed =
    (environment['OTEL_SERVICE_NAME'] ?? '') !== '' ||
    /(^|,)\s*service\.name\s*=/.test(environment['OTEL_RESOURCE_ATTRIBUTES'] ?? '');
  return { serviceName: isNamed ? undefined : 'blockjobd' };
}
