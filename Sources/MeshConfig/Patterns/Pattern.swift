import CRE2

/// A user's regular expression, compiled once by RE2 (linear time) and shared by all threads.
public final class Pattern: Sendable {
  public let source: String
  // RE2 objects are immutable to their callers and documented as safe for concurrent matching.
  private nonisolated(unsafe) let compiled: OpaquePointer

  /// Compiles RE2 syntax; at most `ConfigLimits.patternBytesMax` bytes, not empty.
  public init(_ source: String) throws(PatternError) {
    let bytes = Array(source.utf8)
    guard !bytes.isEmpty else { throw PatternError(reason: "a regular expression must not be empty") }
    guard bytes.count <= ConfigLimits.patternBytesMax else {
      throw PatternError(
        reason: "the regular expression has \(bytes.count) bytes; at most \(ConfigLimits.patternBytesMax) are accepted")
    }
    var message = [CChar](repeating: 0, count: 256)
    let pattern = bytes.withUnsafeBufferPointer { buffer in
      buffer.baseAddress.flatMap {
        cre2_compile(
          $0, buffer.count, ConfigLimits.patternMemoryBytesMax, ConfigLimits.patternProgramMax, &message, message.count)
      }
    }
    guard let pattern else { throw PatternError(reason: "not an RE2 expression: \(Self.text(message))") }
    self.source = source
    self.compiled = pattern
  }

  deinit { cre2_free(compiled) }

  /// Whether the whole of `text` matches.
  public func matches(_ text: Span<UInt8>) -> Bool {
    text.withUnsafeBufferPointer { cre2_full_match(compiled, $0.baseAddress, $0.count) }
  }

  public func matches(_ text: [UInt8]) -> Bool { matches(text.span) }

  /// `text` with every match replaced by `substitution` (`\1` names a group); nil when the result exceeds `bytesMax`.
  public func replacing(in text: Span<UInt8>, with substitution: [UInt8], bytesMax: Int) -> [UInt8]? {
    var length = -1
    let result = [UInt8](unsafeUninitializedCapacity: max(1, bytesMax)) { output, count in
      length = text.withUnsafeBufferPointer { text in
        substitution.withUnsafeBufferPointer { substitution in
          output.baseAddress.map {
            cre2_replace(
              compiled, text.baseAddress, text.count, substitution.baseAddress, substitution.count, $0, output.count)
          } ?? -1
        }
      }
      count = max(0, length)
    }
    return length >= 0 && length <= bytesMax ? result : nil
  }

  /// Why `substitution` cannot be used with this pattern (a group that does not exist), or nil.
  public func problem(withSubstitution substitution: [UInt8]) -> String? {
    var message = [CChar](repeating: 0, count: 256)
    let fits = substitution.withUnsafeBufferPointer {
      cre2_check_rewrite(compiled, $0.baseAddress, $0.count, &message, message.count)
    }
    return fits ? nil : Self.text(message)
  }

  private static func text(_ message: [CChar]) -> String {
    String(decoding: message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

/// Why a regular expression was refused.
public struct PatternError: Error, Hashable, Sendable {
  public let reason: String
}
