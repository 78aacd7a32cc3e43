/** The possible fates of an image in the role that a job gives it. */
import type { Accept } from '../job-options.ts';
import type { Into } from './uses.ts';

export type Fate =
  /** Its contents are in the result. */
  | { readonly is: 'CARRIED'; readonly note: string }
  /** It stays as it is. */
  | { readonly is: 'KEPT'; readonly note: string }
  /** `why`: the end of a sentence that begins with the image. */
  | { readonly is: 'REFUSED'; readonly why: string }
  /** Refused unless the caller accepts it. */
  | {
      readonly is: 'LOST';
      readonly why: string;
      readonly accept: Accept;
      readonly wayOut: string;
      /** Whether nothing is lost because this image takes the data. */
      readonly unless?: (into: Into) => boolean;
    };

export const carried = (note: string) => ({ is: 'CARRIED', note }) as const;
export const kept = (note: string) => ({ is: 'KEPT', note }) as const;
export const refused = (why: string) => ({ is: 'REFUSED', why }) as const;
