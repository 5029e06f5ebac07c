import Primitives

/// Finds the body bytes of one message in what a connection delivers, for every framing.
public struct BodyDecoder: Sendable {
  public enum Event: Hashable, Sendable {
    /// These bytes are body; call again from the range's end.
    case data(Range<Int>)
    /// All given bytes were used; more are needed.
    case needMore
    /// The body is complete; what follows in the buffer is the next message.
    case end
  }

  private enum State: Sendable {
    case complete
    case length(UInt64)
    case untilClose
    case chunked(ChunkedState)
  }

  private enum ChunkedState: Sendable {
    case size
    case data(UInt64)
    case dataEnd
    case trailers
  }

  private let limits: MessageLimits
  private var state: State
  private var line: [UInt8] = []
  private var trailerScanner = HeadScanner()
  /// Trailers after the end of a chunked body, without the names that have no place there.
  public private(set) var trailers: HeaderBlock?

  public init(_ framing: BodyFraming, limits: MessageLimits = MessageLimits()) {
    self.limits = limits
    switch framing {
    case .none: state = .complete
    case .length(let length): state = length == 0 ? .complete : .length(length)
    case .chunked: state = .chunked(.size)
    case .untilClose: state = .untilClose
    }
  }

  public var isComplete: Bool {
    if case .complete = state { true } else { false }
  }

  /// What the end of the connection means here: the end of an until-close body, or an error.
  public mutating func finish() throws(MessageError) {
    switch state {
    case .complete: return
    case .untilClose: state = .complete
    case .length, .chunked: throw MessageError(.endedEarly)
    }
  }

  /// The next event in `bytes` from `position`, which moves behind what was used.
  public mutating func next(_ bytes: Span<UInt8>, from position: inout Int) throws(MessageError) -> Event {
    while true {
      switch state {
      case .complete: return .end
      case .untilClose:
        guard position < bytes.count else { return .needMore }
        defer { position = bytes.count }
        return .data(position..<bytes.count)
      case .length(let left):
        guard position < bytes.count else { return .needMore }
        let take = Int(min(left, UInt64(bytes.count - position)))
        let range = position..<(position + take)
        position += take
        let rest = left - UInt64(take)
        state = rest == 0 ? .complete : .length(rest)
        return .data(range)
      case .chunked(let chunk):
        guard position < bytes.count else { return .needMore }
        if let event = try step(chunk, bytes, &position) { return event }
      }
    }
  }

  /// One step of chunked decoding (RFC 9112 7.1); nil when the state changed and the next step can run.
  private mutating func step(
    _ chunk: ChunkedState, _ bytes: Span<UInt8>, _ position: inout Int
  ) throws(MessageError) -> Event? {
    switch chunk {
    case .size:
      guard try takeLine(bytes, &position) else { return .needMore }
      let size = try chunkSize()
      line.removeAll(keepingCapacity: true)
      state = .chunked(size == 0 ? .trailers : .data(size))
      return nil
    case .data(let left):
      let take = Int(min(left, UInt64(bytes.count - position)))
      let range = position..<(position + take)
      position += take
      let rest = left - UInt64(take)
      state = .chunked(rest == 0 ? .dataEnd : .data(rest))
      return .data(range)
    case .dataEnd:
      line.append(bytes[position])
      position += 1
      guard line[0] == 0x0D, line.count < 2 || line[1] == 0x0A else { throw MessageError(.malformedChunkEnd) }
      if line.count == 2 {
        line.removeAll(keepingCapacity: true)
        state = .chunked(.size)
      }
      return nil
    case .trailers:
      while position < bytes.count {
        line.append(bytes[position])
        position += 1
        if try finishTrailers() { return .end }
      }
      return .needMore
    }
  }

  /// Collects a chunk-size line up to its CRLF; false when the bytes end before.
  private mutating func takeLine(_ bytes: Span<UInt8>, _ position: inout Int) throws(MessageError) -> Bool {
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      if byte == 0x0A {
        guard line.last == 0x0D else { throw MessageError(.bareCarriageReturnOrLineFeed) }
        line.removeLast()
        return true
      }
      if line.last == 0x0D { throw MessageError(.bareCarriageReturnOrLineFeed) }
      guard line.count < limits.chunkLineBytes else { throw MessageError(.malformedChunkSize) }
      line.append(byte)
    }
    return false
  }

  /// Hexadecimal digits, then nothing or an extension that is checked and dropped.
  private func chunkSize() throws(MessageError) -> UInt64 {
    var size: UInt64 = 0
    var digits = 0
    while digits < line.count, let digit = ASCII.hexValue(line[digits]) {
      guard digits < 16 else { throw MessageError(.malformedChunkSize) }
      size = size << 4 | UInt64(digit)
      digits += 1
    }
    guard digits > 0 else { throw MessageError(.malformedChunkSize) }
    guard size <= limits.chunkBytes else { throw MessageError(.chunkTooLarge) }
    guard digits < line.count else { return size }
    guard line[digits] == 0x3B, HeaderBlock.isFieldValue(line.span.extracting(digits...)) else {
      throw MessageError(.malformedChunkSize)
    }
    return size
  }

  private mutating func finishTrailers() throws(MessageError) -> Bool {
    guard line.count <= limits.trailerBytes else { throw MessageError(.trailersTooLarge, status: 431) }
    let received = line
    guard try trailerScanner.end(of: received.span, from: 0, limits: limits) != nil else { return false }
    if line.count > 2 {
      var block = HeaderBlock()
      block.bytes = line
      do throws(MessageError) {
        try block.parseFields(from: 0, to: line.count, limit: limits.fields, allowUnderscores: true)
      } catch {
        throw MessageError(.malformedTrailer, status: error.status)
      }
      block.removeForbiddenTrailers()
      trailers = block
    }
    state = .complete
    return true
  }
}

extension HeaderBlock {
  /// RFC 9110 6.5.1: framing, routing, authentication and content fields have no meaning in trailers.
  mutating func removeForbiddenTrailers() {
    for i in fields.indices {
      switch fields[i].known {
      case .host, .contentLength, .transferEncoding, .connection, .keepAlive, .proxyConnection, .expect, .upgrade, .te,
        .trailer, .authorization, .cookie, .setCookie, .contentType, .location, .proxyAuthenticate, .proxyAuthorization,
        .requestID, .forwardedFor, .forwardedProto, .forwardedHost, .forwardedClientCert, .notProcessed, .meshSource:
        fields[i].isRemoved = true
      default: break
      }
    }
  }
}

/// Writes chunked bodies (RFC 9112 7.1).
public enum ChunkedEncoder {
  public static func writeSize(_ count: Int, into output: inout [UInt8]) {
    output.appendHex(UInt64(max(0, count)))
    output.append(0x0D)
    output.append(0x0A)
  }

  public static func write(_ data: Span<UInt8>, into output: inout [UInt8]) {
    guard !data.isEmpty else { return }
    writeSize(data.count, into: &output)
    output.append(data)
    output.append(0x0D)
    output.append(0x0A)
  }

  public static func writeEnd(trailers: HeaderBlock?, into output: inout [UInt8]) {
    output.append(0x30)
    output.append(0x0D)
    output.append(0x0A)
    if let trailers {
      trailers.write(into: &output)
    } else {
      output.append(0x0D)
      output.append(0x0A)
    }
  }
}
