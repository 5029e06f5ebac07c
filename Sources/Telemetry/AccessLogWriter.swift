import Primitives

/// Writes access-log lines into a buffer the caller reuses: no allocation once the buffer has grown.
///
/// The writer alone escapes. In TEXT, control bytes, quotes, backslashes and non-ASCII become `\xHH`, and so do blanks outside
/// a quoted free-text field, so one request is one line with a fixed number of fields. In JSON such bytes become `\u00HH`,
/// so a line always parses; a byte above 0x7F shows as the character of that number.
public struct AccessLogWriter: Sendable {
  private let format: AccessLogFormat
  private var scratch: [UInt8] = []

  public init(_ format: AccessLogFormat) { self.format = format }

  /// Appends one line, ending in a line feed where the format does (JSON always).
  public mutating func append(_ record: AccessLogRecord, _ texts: borrowing some AccessLogTexts, to out: inout [UInt8]) {
    switch format.layout {
    case .text(let items):
      for item in items {
        switch item {
        case .literal(let bytes): out.append(contentsOf: bytes)
        case .value(let value): appendText(value, record, texts, to: &out)
        }
      }
    case .json(let pieces) where format.omitsMissing: appendPresent(pieces, record, texts, to: &out)
    case .json(let pieces):
      for piece in pieces {
        switch piece {
        case .raw(let bytes): out.append(contentsOf: bytes)
        case .value(let value): appendJSON(value, record, texts, to: &out)
        case .string(let items): appendJSON(items, record, texts, to: &out)
        }
      }
    }
  }

  /// Leaves out the keys of missing values, and the comma after a brace that is left alone by that.
  private mutating func appendPresent(
    _ pieces: [AccessLogFormat.Piece], _ record: AccessLogRecord, _ texts: borrowing some AccessLogTexts, to out: inout [UInt8]
  ) {
    var key = 0..<0
    for piece in pieces {
      let start = out.count
      switch piece {
      case .raw(let bytes):
        let isFirst = bytes.first == 0x2C && out.last == 0x7B
        out.append(contentsOf: isFirst ? bytes.dropFirst() : bytes[...])
        // Of an opening brace only what follows it belongs to the key.
        key = (bytes.first == 0x7B ? start + 1 : start)..<out.count
      case .value(let value):
        appendJSON(value, record, texts, to: &out)
        let isNull = out.count - start == 4 && out[start] == 0x6E
        if isNull, !key.isEmpty, key.upperBound == start, out[start - 1] == 0x3A { out.removeSubrange(key.lowerBound...) }
      case .string(let items): appendJSON(items, record, texts, to: &out)
      }
    }
  }

  /// One string of several parts.
  private mutating func appendJSON(
    _ items: [AccessLogFormat.Item], _ record: AccessLogRecord, _ texts: borrowing some AccessLogTexts, to out: inout [UInt8]
  ) {
    out.append(0x22)
    for item in items {
      let start = out.count
      switch item {
      case .literal(let bytes): out.append(contentsOf: bytes)
      case .value(let value):
        if !appendRaw(value, texts, to: &out), !appendOwn(value, record, to: &out), !format.omitsMissing { out.append(0x2D) }
      }
      escape(from: start, keepsBlanks: true, json: true, in: &out)
    }
    out.append(0x22)
  }

  /// A JSON string of a text that is not the client's.
  static func quoted(_ text: String) -> [UInt8] {
    var writer = AccessLogWriter(.text)
    var out: [UInt8] = Array(text.utf8)
    writer.escape(from: 0, keepsBlanks: true, json: true, in: &out)
    return [0x22] + out + [0x22]
  }

  /// Appends a text as it is; false when it is missing, or no text.
  private func appendRaw(
    _ value: AccessLogFormat.Value, _ texts: borrowing some AccessLogTexts, to out: inout [UInt8]
  ) -> Bool {
    let start = out.count
    switch value {
    case .text(let field): texts.append(field, to: &out)
    case .chosen(let field, let otherwise, let bytesMax):
      texts.append(field, to: &out)
      if out.count == start, let otherwise { texts.append(otherwise, to: &out) }
      if out.count - start > bytesMax { out.removeSubrange((start + bytesMax)...) }
    default: break
    }
    return out.count > start
  }

  private mutating func appendText(
    _ value: AccessLogFormat.Value, _ record: AccessLogRecord, _ texts: borrowing some AccessLogTexts, to out: inout [UInt8]
  ) {
    let start = out.count
    if appendRaw(value, texts, to: &out) {
      escape(from: start, keepsBlanks: value.isFreeText, json: false, in: &out)
    } else if !appendOwn(value, record, to: &out), !format.omitsMissing {
      out.append(0x2D)
    }
  }

  private mutating func appendJSON(
    _ value: AccessLogFormat.Value, _ record: AccessLogRecord, _ texts: borrowing some AccessLogTexts, to out: inout [UInt8]
  ) {
    let start = out.count
    switch value {
    case .text(.command(let command)) where command.isNumber:
      if !appendRaw(value, texts, to: &out) { out.append(contentsOf: "null".utf8) }
    case .text, .chosen:
      out.append(0x22)
      if !appendRaw(value, texts, to: &out) {
        out.removeLast()
        out.append(contentsOf: "null".utf8)
      } else {
        escape(from: start + 1, keepsBlanks: true, json: true, in: &out)
        out.append(0x22)
      }
    case .startTime, .loggedProtocol, .responseFlags:
      out.append(0x22)
      if appendOwn(value, record, to: &out) {
        out.append(0x22)
      } else {
        out.removeLast()
        out.append(contentsOf: "null".utf8)
      }
    default:
      if !appendOwn(value, record, to: &out) { out.append(contentsOf: "null".utf8) }
    }
  }

  /// Appends a value the record itself holds; false when it is missing.
  private func appendOwn(_ value: AccessLogFormat.Value, _ record: AccessLogRecord, to out: inout [UInt8]) -> Bool {
    switch value {
    case .text, .chosen, .missing: return false
    case .startTime: UTCTime.append(milliseconds: record.startMilliseconds, to: &out)
    case .loggedProtocol:
      guard let text = record.loggedProtocol.text else { return false }
      text.withUTF8Buffer { unsafe out.append(contentsOf: $0) }
    case .responseCode: appendDecimal(UInt64(record.responseCode), to: &out)
    case .responseFlags: record.flags.append(to: &out)
    case .bytesReceived: appendDecimal(record.bytesReceived, to: &out)
    case .bytesSent: appendDecimal(record.bytesSent, to: &out)
    case .duration: appendDecimal(record.durationMilliseconds, to: &out)
    case .upstreamServiceTime:
      guard let milliseconds = record.upstreamServiceMilliseconds else { return false }
      appendDecimal(milliseconds, to: &out)
    }
    return true
  }

  /// Escapes what was appended since `start`; most values need nothing and are left where they are.
  private mutating func escape(from start: Int, keepsBlanks: Bool, json: Bool, in out: inout [UInt8]) {
    let max = TelemetryLimits.accessLogFieldBytesMax
    if out.count - start > max { out.removeSubrange((start + max)...) }
    func isPlain(_ byte: UInt8) -> Bool {
      byte > 0x20 && byte < 0x7F && byte != 0x22 && byte != 0x5C || byte == 0x20 && keepsBlanks
    }
    guard let first = out[start...].firstIndex(where: { !isPlain($0) }) else { return }
    scratch.removeAll(keepingCapacity: true)
    scratch.append(contentsOf: out[first...])
    out.removeSubrange(first...)
    for byte in scratch {
      if isPlain(byte) {
        out.append(byte)
      } else {
        out.append(contentsOf: json ? [0x5C, 0x75, 0x30, 0x30] : [0x5C, 0x78])
        out.append(hexDigit(byte >> 4))
        out.append(hexDigit(byte))
      }
    }
  }
}

extension AccessLogFormat.Value {
  fileprivate var isFreeText: Bool {
    switch self {
    case .text(let field), .chosen(let field, _, _): field.isFreeText
    default: false
    }
  }
}

extension AccessLogText {
  /// True for texts that stand alone between quotes in Istio's format, where a blank separates nothing.
  fileprivate var isFreeText: Bool {
    switch self {
    case .userAgent, .forwardedFor, .upstreamTransportFailureReason, .requestHeader, .command: true
    default: false
    }
  }
}

/// Appends a number's decimal digits without allocating.
func appendDecimal(_ value: UInt64, to out: inout [UInt8]) {
  let start = out.count
  var rest = value
  repeat {
    out.append(0x30 + UInt8(truncatingIfNeeded: rest % 10))
    rest /= 10
  } while rest > 0
  out[start...].reverse()
}
