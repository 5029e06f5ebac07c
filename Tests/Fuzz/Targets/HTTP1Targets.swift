import HTTPCodec
import Primitives

/// Any bytes as a request: fed at once and byte by byte they mean the same, and what is written for the next hop parses to
/// the same request.
func fuzzRequest(_ bytes: [UInt8]) {
  let modes: [PathNormalization] = [.none, .base, .mergeSlashes, .decodeAndMergeSlashes]
  var options = RequestParser.Options()
  options.normalization = modes[Int((bytes.first ?? 0) & 3)]
  options.allowUnderscores = (bytes.first ?? 0) & 4 == 0
  options.allowHTTP10 = (bytes.first ?? 0) & 8 != 0
  let received = Array(bytes.dropFirst())
  let whole = request(received, options)
  promise(request(received, options, drip: true) == whole, "a request fed byte by byte is the same request")
  guard case .success(let parsed) = whole else { return }
  promise(parsed.length <= received.count, "a head ends within the bytes")
  var head = parsed.head
  head.headers.removeHopByHop()
  var output: [UInt8] = []
  head.write(into: &output, chunked: head.framing == .chunked)
  guard case .success(let again) = request(output, options) else {
    return promise(false, "what was written parses: \(String(decoding: output, as: UTF8.self))")
  }
  promise(again.length == output.count, "one request is written")
  promise(again.head.method == head.method && again.head.framing == head.framing, "method and framing are kept")
  promise(text(again.head, \.target) == text(head, \.target), "the target that was authorised is forwarded")
  promise(text(again.head, \.authority) == text(head, \.authority), "the authority is kept")
  promise(again.head.path.count == head.path.count && again.head.port == head.port, "path and port are kept")
}

private func text(_ head: RequestHead, _ range: KeyPath<RequestHead, Range<Int>>) -> [UInt8] {
  head.headers.copy(head[keyPath: range])
}

private struct Parsed: Equatable {
  var length: Int
  var head: RequestHead

  static func == (a: Parsed, b: Parsed) -> Bool {
    var first: [UInt8] = []
    var second: [UInt8] = []
    a.head.write(into: &first, chunked: false)
    b.head.write(into: &second, chunked: false)
    return a.length == b.length && first == second && a.head.framing == b.head.framing
      && a.head.keepsAlive == b.head.keepsAlive && a.head.wantsUpgrade == b.head.wantsUpgrade
  }
}

/// Nil inside when more bytes are needed.
private func request(_ bytes: [UInt8], _ options: RequestParser.Options, drip: Bool = false) -> Result<Parsed, MessageError>? {
  var parser = RequestParser(options: options)
  var head = RequestHead()
  for end in drip ? Array(0...bytes.count) : [bytes.count] {
    do throws(MessageError) {
      if let length = try parser.parse(bytes.span.extracting(0..<end), from: 0, into: &head) {
        return .success(Parsed(length: length, head: head))
      }
    } catch {
      return .failure(error)
    }
  }
  return nil
}

/// Any bytes as a response: nothing outside what was received, and what is written parses again.
func fuzzResponse(_ bytes: [UInt8]) {
  let methods: [HTTPMethod] = [.get, .head, .post, .connect]
  let method = methods[Int((bytes.first ?? 0) & 3)]
  let text = Array(bytes.dropFirst())
  guard let head = response(text, method) else { return }
  var output: [UInt8] = []
  var forwarded = head
  forwarded.headers.removeHopByHop()
  forwarded.write(into: &output, chunked: head.framing == .chunked, close: false)
  guard let again = response(output, method) else {
    return promise(false, "what was written parses: \(String(decoding: output, as: UTF8.self))")
  }
  promise(again.status == head.status && again.framing == head.framing, "status and framing are kept")
  fuzzBody(head.framing, Array(text.dropFirst(head.receivedBytes)))
}

private func response(_ bytes: [UInt8], _ method: HTTPMethod) -> ResponseHead? {
  var parser = ResponseParser()
  var head = ResponseHead()
  guard let length = try? parser.parse(bytes.span, from: 0, answering: method, into: &head) else { return nil }
  promise(length <= bytes.count && head.receivedBytes == length, "a head ends within the bytes")
  return head
}

/// Any bytes as a chunked body: however they are cut, they are the same body, and it can be written and read again.
func fuzzChunked(_ bytes: [UInt8]) { fuzzBody(.chunked, bytes) }

private func fuzzBody(_ framing: BodyFraming, _ bytes: [UInt8]) {
  let whole = body(framing, bytes, step: bytes.count)
  let cut = body(framing, bytes, step: 1)
  promise(cut == whole, "a body fed byte by byte is the same body")
  guard whole.isComplete, framing == .chunked else { return }
  var output: [UInt8] = []
  ChunkedEncoder.write(whole.bytes.span, into: &output)
  ChunkedEncoder.writeEnd(trailers: whole.trailers.isEmpty ? nil : whole.block, into: &output)
  let again = body(.chunked, output, step: output.count)
  promise(again.isComplete && again.bytes == whole.bytes && again.used == output.count, "a written body is the same body")
  promise(again.trailers == whole.trailers, "trailers are kept")
}

private struct Body: Equatable {
  var bytes: [UInt8] = []
  var used = 0
  var isComplete = false
  var error: MessageError?
  var block = HeaderBlock()
  /// The trailers as lines.
  var trailers: [UInt8] = []

  static func == (a: Body, b: Body) -> Bool {
    a.bytes == b.bytes && a.isComplete == b.isComplete && a.error == b.error && a.trailers == b.trailers
      && (a.used == b.used || !a.isComplete)
  }
}

private func body(_ framing: BodyFraming, _ bytes: [UInt8], step: Int) -> Body {
  var decoder = BodyDecoder(framing)
  var result = Body()
  var at = 0
  while at < bytes.count, !decoder.isComplete {
    let end = min(bytes.count, at + max(1, step))
    let part = Array(bytes[at..<end])
    var position = 0
    reading: while true {
      do throws(MessageError) {
        switch try decoder.next(part.span, from: &position) {
        case .data(let range): result.bytes.append(contentsOf: part[range])
        case .needMore, .end: break reading
        }
      } catch {
        result.error = error
        return result
      }
    }
    promise(position <= part.count, "a decoder stays within the bytes")
    at += decoder.isComplete ? position : part.count
  }
  result.used = at
  result.isComplete = decoder.isComplete
  if let trailers = decoder.trailers {
    result.block = trailers
    trailers.write(into: &result.trailers)
    if result.trailers.count == 2 { result.trailers = [] }
  }
  return result
}

/// Any bytes as a path: making it canonical twice is making it canonical once, and it is still a path.
func fuzzPath(_ bytes: [UInt8]) {
  for mode in [PathNormalization.base, .mergeSlashes, .decodeAndMergeSlashes] {
    let path = [0x2F] + bytes
    guard let once = try? mode.canonical(path.span) else { continue }
    promise(once.first == 0x2F, "a canonical path begins with a slash")
    promise(once.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != 0x23 }, "a canonical path can stand in a request line")
    guard let twice = try? mode.canonical(once.span) else { continue }
    promise(twice == once, "\(mode): \(String(decoding: once, as: UTF8.self)) became \(String(decoding: twice, as: UTF8.self))")
  }
}
