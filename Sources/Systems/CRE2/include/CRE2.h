#ifndef MESH_CRE2_H
#define MESH_CRE2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// A compiled RE2 pattern. Matching is safe from any thread; freeing is the owner's duty.
typedef struct cre2_pattern cre2_pattern;

/// Compiles `length` bytes of UTF-8 pattern under `memory_max` bytes and `program_max` instructions.
/// Returns NULL and a NUL-terminated text in `error` when the pattern is refused.
cre2_pattern *_Nullable cre2_compile(const uint8_t *_Nonnull pattern, size_t length, int64_t memory_max, int program_max,
                                     char *_Nonnull error, size_t error_capacity);

/// Whether the whole text matches, in time linear in `length`.
bool cre2_full_match(const cre2_pattern *_Nonnull pattern, const uint8_t *_Nullable text, size_t length);

/// Replaces every match with `rewrite` (`\0` to `\9` are groups) and writes the result to `output`.
/// Returns the result's length, or -1 when it exceeds `capacity` (then nothing is written).
ptrdiff_t cre2_replace(const cre2_pattern *_Nonnull pattern, const uint8_t *_Nullable text, size_t length,
                       const uint8_t *_Nullable rewrite, size_t rewrite_length, uint8_t *_Nonnull output, size_t capacity);

/// Whether `rewrite` names only groups that the pattern has; otherwise a text is left in `error`.
bool cre2_check_rewrite(const cre2_pattern *_Nonnull pattern, const uint8_t *_Nullable rewrite, size_t rewrite_length,
                        char *_Nonnull error, size_t error_capacity);

void cre2_free(cre2_pattern *_Nullable pattern);

#ifdef __cplusplus
}
#endif

#endif
