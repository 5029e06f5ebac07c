import Primitives

/// How a request path is made canonical, once, before anything looks at it (Istio's `pathNormalization`).
public enum PathNormalization: Hashable, Sendable {
  case none
  case base
  case mergeSlashes
  case decodeAndMergeSlashes

  /// The canonical form of `path` (without query), or nil when it already is.
  ///
  /// Base mode resolves `.` and `..` (also written `%2e`), turns `\` into `/`, decodes `%XX` of letters, digits, `-`, `_`
  /// and `~`, and encodes bytes that have no place in a path. `%2F` and `%5C` stay. `%00` is an error.
  public func canonical(_ path: Span<UInt8>) throws(MessageError) -> [UInt8]? {
    if self == .none { return nil }
    if Self.isCanonical(path, merging: self != .base) { return nil }
    var text = try Self.recode(path, decodingSlashes: self == .decodeAndMergeSlashes)
    text = Self.resolveDotSegments(text)
    if self != .base { text = Self.mergeSlashes(text) }
    return text
  }

  /// True when no byte needs a second look; the common case, decided in one pass.
  private static func isCanonical(_ path: Span<UInt8>, merging: Bool) -> Bool {
    var previous: UInt8 = 0
    for i in path.indices {
      let byte = path[i]
      if !ByteClass.has(byte, ByteClass.pathAsIs) { return false }
      if previous == 0x2F, byte == 0x2E || (merging && byte == 0x2F) { return false }
      previous = byte
    }
    return true
  }

  private static func recode(_ path: Span<UInt8>, decodingSlashes: Bool) throws(MessageError) -> [UInt8] {
    let digits = Array("0123456789ABCDEF".utf8)
    var text: [UInt8] = []
    text.reserveCapacity(path.count)
    // Where a `%` stands that begins no escape. What follows it is not decoded: `%%341` must not become `%41`, which whoever
    // decodes next would take for `A`.
    var strayPercent = -3
    var at = 0
    while at < path.count {
      let byte = path[at]
      if byte == 0x25, let value = escaped(path, at) {
        if value == 0 { throw MessageError(.nulInPath) }
        if isUnreserved(value), text.count > strayPercent + 2 {
          text.append(value)
        } else if decodingSlashes, value == 0x2F || value == 0x5C {
          text.append(0x2F)
        } else {
          text.append(path.extracting(at..<(at + 3)))
        }
        at += 3
        continue
      }
      if byte == 0x5C {
        text.append(0x2F)
      } else if byte == 0x25 {
        strayPercent = text.count
        text.append(byte)
      } else if ByteClass.has(byte, ByteClass.pathAsIs) {
        text.append(byte)
      } else {
        text.append(0x25)
        text.append(digits[Int(byte >> 4)])
        text.append(digits[Int(byte & 15)])
      }
      at += 1
    }
    return text
  }

  private static func escaped(_ path: Span<UInt8>, _ at: Int) -> UInt8? {
    guard at + 2 < path.count, let high = ASCII.hexValue(path[at + 1]), let low = ASCII.hexValue(path[at + 2]) else {
      return nil
    }
    return high << 4 | low
  }

  /// `.` is left out on purpose: as a whole segment it is resolved below, elsewhere `%2e` stays as written.
  private static func isUnreserved(_ b: UInt8) -> Bool {
    switch b {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x5F, 0x7E: true
    default: false
    }
  }

  /// RFC 3986 5.2.4; `..` at the root stays at the root.
  private static func resolveDotSegments(_ path: [UInt8]) -> [UInt8] {
    var output: [UInt8] = []
    output.reserveCapacity(path.count)
    var at = 1
    while at <= path.count {
      var end = at
      while end < path.count, path[end] != 0x2F { end += 1 }
      let isLast = end == path.count
      switch dots(path[at..<end]) {
      case 1:
        if isLast { output.append(0x2F) }
      case 2:
        while let byte = output.popLast(), byte != 0x2F {}
        if isLast { output.append(0x2F) }
      default:
        output.append(0x2F)
        output.append(contentsOf: path[at..<end])
      }
      at = end + 1
    }
    return output.isEmpty ? [0x2F] : output
  }

  /// 1 for `.`, 2 for `..`, in any mix with `%2e`; 0 for every other segment.
  private static func dots(_ segment: ArraySlice<UInt8>) -> Int {
    guard segment.count <= 6 else { return 0 }
    var count = 0
    var at = segment.startIndex
    while at < segment.endIndex {
      if segment[at] == 0x2E {
        at += 1
      } else if segment[at] == 0x25, at + 2 < segment.endIndex, segment[at + 1] == 0x32, segment[at + 2] | 0x20 == 0x65 {
        at += 3
      } else {
        return 0
      }
      count += 1
    }
    return count <= 2 ? count : 0
  }

  private static func mergeSlashes(_ path: [UInt8]) -> [UInt8] {
    var output: [UInt8] = []
    output.reserveCapacity(path.count)
    for byte in path where byte != 0x2F || output.last != 0x2F { output.append(byte) }
    return output
  }
}
