/** Command lines for a newcomer to try. */

export interface Place {
  readonly address: string;
  readonly domain: string;
  readonly disk: string;
  readonly folder: string;
  /** VM and service still run. */
  readonly kept: boolean;
}

export function linesToTry({ address, domain, disk, folder, kept }: Place): string {
  const at = kept ? address : '127.0.0.1:50051';
  const ref = `{"job": {"disk": {"domain": "${domain}", "disk": "${disk}"}}`;
  const copy =
    `{"disk": {"domain": "${domain}", "disk": "${disk}"}, ` +
    `"destination": {"file": "${folder}/next.qcow2"}, "bandwidth_bytes_per_second": 30000000, "granularity_bytes": 4096}`;
  const buf = (method: string, body: string) =>
    `  buf curl --protocol grpc --http2-prior-knowledge -d '${body}' http://${at}/blockjob.v1.${method}`;
  const blockjob = (words: string) => `  bin/blockjob --address ${at} ${words}`;
  const grpcurl = (method: string, body: string) => `  grpcurl -plaintext -d '${body}' ${at} blockjob.v1.${method}`;

  const look = [
    blockjob(`disks ${domain}`),
    blockjob(`watch ${domain} ${disk}`),
    `  grpcurl -plaintext ${at} list`,
    grpcurl('DomainService/GetDomain', `{"domain": "${domain}"}`),
    buf('BlockJobService/ListJobs', '{}'),
    buf('BlockJobService/WatchJob', `${ref}, "after_revision": "0"}`),
  ];
  if (!kept) {
    const intro = 'All of it has ended and is removed. `make demo KEEP=1` keeps it; then try, in another terminal:';
    return ['', intro, ...look].join('\n');
  }
  return [
    '',
    `VM and service go on until Ctrl-C. Try, in another terminal (buf is in node_modules/.bin):`,
    ...look,
    'and the same once more, by the command or by hand:',
    blockjob(`copy ${domain} ${disk} ${folder}/third.qcow2 --bandwidth 30MiB --wait --verbose --pivot`),
    buf('BlockJobService/StartCopy', copy),
    grpcurl('BlockJobService/WatchJob', `${ref}}`),
    buf('BlockJobService/Abort', `${ref}, "pivot": true}`),
  ].join('\n');
}
