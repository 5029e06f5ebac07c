import Glibc

/// Reads HTTP/1.1 messages with `content-length` from a blocking socket; enough for the two programs here.
struct MessageReader {
  private let descriptor: Int32
  private var bytes: [UInt8] = []

  init(_ descriptor: Int32) { self.descriptor = descriptor }

  struct Message {
    /// The words of the first line.
    var start: [Substring]
    /// Names in lower case.
    var fields: [String: String]
    var body: String
  }

  enum Outcome {
    case message(Message)
    /// The peer closed; `isPartial` when a message had begun.
    case closed(isPartial: Bool)
    case failed(Int32)
    case malformed(String)
  }

  mutating func next() -> Outcome {
    while true {
      if let end = headEnd() {
        let head = String(decoding: bytes[..<end], as: UTF8.self)
        let lines = head.split(separator: "\r\n")
        guard let first = lines.first else { return .malformed(head) }
        var fields: [String: String] = [:]
        for line in lines.dropFirst() {
          let parts = line.split(separator: ":", maxSplits: 1)
          if parts.count == 2 { fields[parts[0].lowercased()] = String(parts[1].drop { $0 == " " }) }
        }
        guard fields["transfer-encoding"] == nil else { return .malformed("chunked: \(head)") }
        let length = fields["content-length"].flatMap(Int.init) ?? 0
        if bytes.count >= end + 4 + length {
          let body = String(decoding: bytes[(end + 4)..<(end + 4 + length)], as: UTF8.self)
          bytes.removeFirst(end + 4 + length)
          return .message(Message(start: first.split(separator: " "), fields: fields, body: body))
        }
      }
      var chunk = [UInt8](repeating: 0, count: 16 * 1024)
      let count = recv(descriptor, &chunk, chunk.count, 0)
      if count == 0 { return .closed(isPartial: !bytes.isEmpty) }
      if count < 0 { return .failed(errno) }
      bytes += chunk[..<count]
    }
  }

  private func headEnd() -> Int? {
    guard bytes.count >= 4 else { return nil }
    return (0...(bytes.count - 4)).first {
      bytes[$0] == 13 && bytes[$0 + 1] == 10 && bytes[$0 + 2] == 13 && bytes[$0 + 3] == 10
    }
  }
}
