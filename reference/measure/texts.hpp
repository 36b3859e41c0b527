#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace olmoe {

class Tokenizer;

/// A part of a text that stands for itself, such as a chapter or a file: the unit that errors are
/// of.
struct Document {
  std::string name;
  std::int64_t tokens = 0;
};

/// A text as token ids: one domain of an evaluation.
struct Text {
  std::string name;               ///< the file's name without its directory
  std::vector<std::int32_t> ids;  ///< (tokens)
  std::string sha256;             ///< of the file; empty if it came from none
  /// One after the other, all of `ids`; empty: the text is a single document.
  std::vector<Document> documents = {};

  /// `documents`, or the single one, called as the text.
  std::vector<Document> all_documents() const;
};

/// Reads UTF-8 text files. A directory stands for its *.txt files, by name. If a file
/// NAME.documents lies beside NAME.txt, it says of what documents the text consists: a line "BYTES
/// NAME" for each, in order. Each is encoded on its own. Throws Error, naming the file, if one
/// cannot be read or holds no token, if documents are not all of their text or one has no token, if
/// a directory holds no .txt file, and if two texts would have the same name.
std::vector<Text> load_texts(std::span<const std::string> paths, const Tokenizer& tokenizer);

/// The first `tokens` tokens of a text, with the documents that they are of; all of a shorter text.
/// A document that would keep a single token, which predicts nothing, is left out.
Text first_tokens(Text text, std::int64_t tokens);

/// Moves about the first quarter of a text to a text of its own: whole documents, or a quarter of
/// the tokens if there is only one. Returns that quarter, its documents named; `text` keeps the
/// rest.
Text split_off_quarter(Text& text);

}  // namespace olmoe
