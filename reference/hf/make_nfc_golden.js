// Writes the digests of what Hugging Face's NFC makes of every code point:
//
//     npm install tokenizers@0.23.2 && node make_nfc_golden.js > tests/golden/nfc.sha256
//
// A line for each 65,536 code points c that are no surrogates: the first, and the SHA-256 of the
// normal forms of c, x c U+0334, x U+0345 c and x c U+0323 U+0301, each with a line feed behind it.
// The marks have the lowest and the highest combining class but the class 0, and two that compose.
const { createHash } = require("crypto");
const { nfcNormalizer } = require("tokenizers");

const nfc = nfcNormalizer();
for (let first = 0; first < 0x110000; first += 0x10000) {
  const hash = createHash("sha256");
  for (let code = first; code < first + 0x10000; ++code) {
    if (code >= 0xd800 && code < 0xe000) continue;
    const c = String.fromCodePoint(code);
    for (const text of [c, `x${c}\u0334`, `x\u0345${c}`, `x${c}\u0323\u0301`])
      hash.update(nfc.normalizeString(text) + "\n", "utf8");
  }
  console.log(first.toString(16).padStart(6, "0"), hash.digest("hex"));
}
