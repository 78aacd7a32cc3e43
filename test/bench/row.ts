/** The process of one row: measures it, and sends the figures to its parent. */
import { present } from '../support/checks.ts';
import { ROWS } from './rows.ts';

const { load } = present(ROWS.find(({ name }) => name === process.argv[2]));
const { measure } = await load();
process.send?.(await measure());
