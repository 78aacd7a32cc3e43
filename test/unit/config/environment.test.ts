/** Whether the environment asks for traces. */
import { expect, it } from 'vitest';
import { tracesIn } from '../../../src/config/environment.ts';

it.each([
  [{}, undefined],
  [{ OTEL_SERVICE_NAME: 'x', OTEL_TRACES_SAMPLER: 'always_on' }, undefined],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: '' }, undefined],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318' }, { serviceName: 'blockjobd' }],
  [{ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://c:4318/v1/traces' }, { serviceName: 'blockjobd' }],
  [{ OTEL_TRACES_EXPORTER: 'console' }, { serviceName: 'blockjobd' }],
  [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://c:4318', OTEL_TRACES_EXPORTER: 'none' }, undefined],
  [{ OTEL_TRACES_EXPORTER: 'otlp', OTEL_SDK_DISABLED: 'true' }, undefined],
  [{ OTEL_TRACES_EXPORTER: 'otlp', OTEL_SDK_DISABLED: ' TRUE ' }, undefined],
  [{ OTEL_TRACES_EXPORTER: 'otlp', OTEL_SDK_DISABLED: 'false' }, { serviceName: 'blockjobd' }],
  [{ OTEL_TRACES_EXPORTER: 'otlp', OTEL_SERVICE_NAME: 'x' }, { serviceName: undefined }],
  [{ OTEL_TRACES_EXPORTER: 'otlp', OTEL_RESOURCE_ATTRIBUTES: 'a=b,service.name=x' }, { serviceName: undefined }],
  [{ OTEL_TRACES_EXPORTER: 'otlp', OTEL_RESOURCE_ATTRIBUTES: 'my.service.name=x' }, { serviceName: 'blockjobd' }],
])('%j: %j', (environment, traces) => {
  expect(tracesIn(environment)).toEqual(traces);
});
