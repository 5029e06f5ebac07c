#include "CRE2.h"

#include <re2/re2.h>

#include <cstring>
#include <new>
#include <string>

struct cre2_pattern {
  re2::RE2 re;
  cre2_pattern(const re2::StringPiece &text, const re2::RE2::Options &options) : re(text, options) {}
};

namespace {

re2::StringPiece piece(const uint8_t *bytes, size_t length) {
  return re2::StringPiece(length == 0 ? "" : reinterpret_cast<const char *>(bytes), length);
}

void copy(const std::string &text, char *into, size_t capacity) {
  if (capacity == 0) return;
  size_t count = text.size() < capacity - 1 ? text.size() : capacity - 1;
  std::memcpy(into, text.data(), count);
  into[count] = 0;
}

}  // namespace

extern "C" cre2_pattern *cre2_compile(const uint8_t *pattern, size_t length, int64_t memory_max, int program_max, char *error,
                                      size_t error_capacity) {
  re2::RE2::Options options(re2::RE2::Quiet);
  options.set_max_mem(memory_max);
  cre2_pattern *compiled = new (std::nothrow) cre2_pattern(piece(pattern, length), options);
  if (compiled == nullptr) {
    copy("out of memory", error, error_capacity);
    return nullptr;
  }
  if (!compiled->re.ok()) {
    copy(compiled->re.error(), error, error_capacity);
    delete compiled;
    return nullptr;
  }
  if (compiled->re.ProgramSize() > program_max) {
    copy("the compiled program is too large", error, error_capacity);
    delete compiled;
    return nullptr;
  }
  return compiled;
}

extern "C" bool cre2_full_match(const cre2_pattern *pattern, const uint8_t *text, size_t length) {
  return re2::RE2::FullMatch(piece(text, length), pattern->re);
}

extern "C" ptrdiff_t cre2_replace(const cre2_pattern *pattern, const uint8_t *text, size_t length, const uint8_t *rewrite,
                                  size_t rewrite_length, uint8_t *output, size_t capacity) {
  re2::StringPiece input = piece(text, length);
  std::string result(input.data(), input.size());
  re2::RE2::GlobalReplace(&result, pattern->re, piece(rewrite, rewrite_length));
  if (result.size() > capacity) return -1;
  std::memcpy(output, result.data(), result.size());
  return static_cast<ptrdiff_t>(result.size());
}

extern "C" bool cre2_check_rewrite(const cre2_pattern *pattern, const uint8_t *rewrite, size_t rewrite_length, char *error,
                                   size_t error_capacity) {
  std::string text;
  if (pattern->re.CheckRewriteString(piece(rewrite, rewrite_length), &text)) return true;
  copy(text, error, error_capacity);
  return false;
}

extern "C" void cre2_free(cre2_pattern *pattern) { delete pattern; }
