/**
 * TLS 1.3 and nothing older, in all of this process. gRPC makes its TLS contexts itself, and asks for no version: this
 * is the one place where it can be told. Whoever makes credentials imports it.
 */
import tls from 'node:tls';

tls.DEFAULT_MIN_VERSION = 'TLSv1.3';
