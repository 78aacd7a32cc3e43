/** The values of options, each with its error in plain words. */
import { resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { type Address, isLoopback, type Port, parseAddress } from '../lib/address.ts';

export function parseListen(text: string): Address {
  const address = parseAddress(text);
  if (typeof address === 'string') throw new InvalidArgumentError(address);
  return address;
}

export function parsePage(text: string): Port | 'off' {
  const address = portOrOff(text, '127.0.0.1:50080');
  if (address === 'off' || isLoopback(address.host)) return address;
  throw new InvalidArgumentError(
    `${address.host} is not loopback, and the page shows everything to every client: it has no callers' names. ` +
      'Serve it on 127.0.0.1, and reach it through ssh -L.',
  );
}

export function parseMetrics(text: string): Port | 'off' {
  return portOrOff(text, '127.0.0.1:9464');
}

function portOrOff(text: string, example: string): Port | 'off' {
  const address = text === 'off' ? text : parseAddress(text);
  if (address === 'off' || (typeof address === 'object' && 'host' in address)) return address;
  throw new InvalidArgumentError(`Give HOST:PORT, for example ${example}, or off.`);
}

export function parseNamed(text: string): { name: string; socketPath: string } {
  const at = text.indexOf('=');
  if (at < 1 || at === text.length - 1)
    throw new InvalidArgumentError('Give NAME=SOCKET, for example web1=/run/web1.qmp.');
  return { name: text.slice(0, at), socketPath: resolve(text.slice(at + 1)) };
}

export const parsePattern = matching(
  /^[^/]+$/,
  'Give the name of a socket without its folder, with * for any text, for example *.qmp.',
);

export const parseOwner = matching(
  /^[0-9a-f]{6}$/,
  'Give six of the digits 0-9 and a-f: those after bj in the id of a job.',
);

export type AllowedDestination =
  | { readonly folder: string }
  | { readonly host: string; readonly port: number | undefined };

export function parseAllowed(text: string): AllowedDestination {
  if (!text.startsWith('nbd://')) return { folder: resolve(text) };
  const found = /^nbd:\/\/(\*|\[[0-9a-fA-F:.]+\]|[^:/[\]]+)(?::(\d{1,5}))?$/.exec(text);
  const [, host, port] = found ?? [];
  if (host === undefined) throw new InvalidArgumentError('Give nbd://HOST, nbd://HOST:PORT or nbd://*.');
  return { host: host.replaceAll(/[[\]]/g, ''), port: port === undefined ? undefined : Number(port) };
}

/** It is a part of keys and of ids, and people type it. */
export const parseHostName = matching(
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$/,
  'Give a host name: letters, digits, ".", "-" and "_".',
);

export const parseAdvertised = matching(
  /^(\[[0-9a-fA-F:]+\]|[^:/[\]\s]+):\d{1,5}$/,
  'Give HOST:PORT, at which gateways reach this agent.',
);

function matching(pattern: RegExp, instead: string): (text: string) => string {
  return (text) => {
    if (pattern.test(text)) return text;
    throw new InvalidArgumentError(instead);
  };
}

export function parseFile(text: string): string {
  if (text === '') throw new InvalidArgumentError('Give the path of a file.');
  return resolve(text);
}

export function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (!(seconds >= 0 && seconds <= 3600)) throw new InvalidArgumentError('Give 0 to 3600 seconds.');
  return seconds;
}

/** With fewer a client that watches a few jobs could ask nothing more; with more a connection could use up the memory. */
export const parseStreams = wholeNumber(10, 10_000, 'Give a whole number from 10 to 10000.');

/** Node's timers take no more than 24 days. */
export const parseAge = wholeNumber(60, 1_000_000, 'Give whole seconds from 60 to 1000000.');

/** A shorter lease would be lost at each election of etcd. */
export const parseTtl = wholeNumber(5, 600, 'Give whole seconds from 5 to 600.');

export const parseCount = wholeNumber(1, 1_000_000, 'Give a whole number from 1 to 1000000.');

function wholeNumber(least: number, most: number, instead: string): (text: string) => number {
  return (text) => {
    const count = Number(text);
    if (Number.isInteger(count) && count >= least && count <= most) return count;
    throw new InvalidArgumentError(instead);
  };
}

/** For options that may be repeated. */
export function collect<T>(parse: (text: string) => T) {
  return (text: string, before: readonly T[]): readonly T[] => [...before, parse(text)];
}
