/// Finds the end of a head without looking at any byte twice, and refuses bare line ends as soon as they are seen.
struct HeadScanner: Sendable {
  /// Offset from the head's start up to which bytes were looked at.
  private var scanned = 0
  /// Offset of the current line.
  private var lineStart = 0
  private var lines = 0

  mutating func reset() { self = HeadScanner() }

  /// The count of bytes of the head with its empty line, or nil when it is not complete.
  mutating func end(of bytes: Span<UInt8>, from start: Int, limits: MessageLimits) throws(MessageError) -> Int? {
    let available = bytes.count - start
    while scanned < available {
      // Line ends are what this looks at; the parser refuses other control bytes.
      scanned = bytes.first(below: 0x0E, from: start + scanned, to: start + available) - start
      if lines == 0, scanned > limits.startLineBytes { throw MessageError(.startLineTooLong, status: 414) }
      if scanned > limits.headBytes { throw MessageError(.headTooLarge, status: 431) }
      guard scanned < available else { return nil }
      switch bytes[start + scanned] {
      case 0x0D:
        // A line end cut in two is looked at again when its second half is there.
        guard scanned + 1 < available else { return nil }
        guard bytes[start + scanned + 1] == 0x0A else { throw MessageError(.bareCarriageReturnOrLineFeed) }
        scanned += 2
        if scanned - lineStart == 2 { return scanned }
        lineStart = scanned
        lines += 1
        if lines > limits.fields + 1 { throw MessageError(.tooManyFields, status: 431) }
      case 0x0A: throw MessageError(.bareCarriageReturnOrLineFeed)
      default: scanned += 1
      }
    }
    return nil
  }
}
