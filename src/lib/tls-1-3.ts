/**
 * TLS 1.3 and nothing older, in all of this process. gRPC makes its TLS contexts itself, without a version: only here
 * can one be set. Code that makes credentials imports this.
 */
import tls from 'node:tls';

tls.DEFAULT_MIN_VERSION = 'TLSv1.3';
