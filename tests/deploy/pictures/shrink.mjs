// A picture with no more colours than its lines need: a quarter of the bytes. `node shrink.mjs FROM TO`
import { readFileSync, writeFileSync } from 'node:fs';
import UPNG from 'upng-js';

const COLOURS = 48;
const [from, to] = process.argv.slice(2);
const picture = UPNG.decode(readFileSync(from));
writeFileSync(to, Buffer.from(UPNG.encode(UPNG.toRGBA8(picture), picture.width, picture.height, COLOURS)));
