import Primitives

/// A whole request as a plain value, for small servers and clients that are not the proxy.
public struct HTTPRequest: Hashable, Sendable {
  public var method: String
  /// Canonical path without query.
  public var path: String
  /// After `?`, or nil.
  public var query: String?
  public var authority: String
  /// In order; names in lower case.
  public var headers: [HTTPField]
  public var body: [UInt8]
  public var keepsAlive = true

  public init(
    _ method: String, _ path: String, query: String? = nil, authority: String, headers: [HTTPField] = [], body: [UInt8] = []
  ) {
    self.method = method
    self.path = path
    self.query = query
    self.authority = authority
    self.headers = headers
    self.body = body
  }

  /// The first value of a field; `name` in lower case.
  public func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }

  /// The bytes on the wire, or nil when a part holds bytes that could split the message.
  public func serialized() -> [UInt8]? {
    let target = path + (query.map { "?" + $0 } ?? "")
    let isClean =
      (method.utf8.isEmpty ? false : Bytes.isToken(Array(method.utf8).span))
      && target.utf8.first == 0x2F && target.utf8.allSatisfy { ByteClass.has($0, ByteClass.target) }
    guard isClean, HeaderBlock.isFieldValue(Array(authority.utf8).span) else { return nil }
    var output = Array("\(method) \(target) HTTP/1.1\r\nhost: \(authority)\r\n".utf8)
    guard headers.write(into: &output) else { return nil }
    if !body.isEmpty || method == "POST" || method == "PUT" {
      output.append(contentsOf: "content-length: \(body.count)\r\n".utf8)
    }
    if !keepsAlive { output.append(contentsOf: "connection: close\r\n".utf8) }
    output.append(contentsOf: "\r\n".utf8)
    output.append(contentsOf: body)
    return output
  }
}

/// A whole response as a plain value.
public struct HTTPResponse: Hashable, Sendable {
  public var status: Int
  public var headers: [HTTPField]
  public var body: [UInt8]
  public var keepsAlive = true

  public init(status: Int, headers: [HTTPField] = [], body: [UInt8] = []) {
    self.status = status
    self.headers = headers
    self.body = body
  }

  public init(status: Int, text: String, type: String = "text/plain; charset=utf-8") {
    self.init(status: status, headers: [HTTPField("content-type", type)], body: Array(text.utf8))
  }

  public func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }

  /// The bytes on the wire, or nil when a field holds bytes that could split the message.
  ///
  /// - Parameter withBody: false for an answer to HEAD, which announces the length but carries nothing.
  public func serialized(withBody: Bool = true) -> [UInt8]? {
    guard status >= 100, status <= 999 else { return nil }
    var output = Array("HTTP/1.1 \(status) \(StatusReason.phrase(status))\r\n".utf8)
    guard headers.write(into: &output) else { return nil }
    if status >= 200, status != 204, status != 304 { output.append(contentsOf: "content-length: \(body.count)\r\n".utf8) }
    if !keepsAlive { output.append(contentsOf: "connection: close\r\n".utf8) }
    output.append(contentsOf: "\r\n".utf8)
    if withBody { output.append(contentsOf: body) }
    return output
  }
}

/// A field of a plain message; the name in lower case.
public struct HTTPField: Hashable, Sendable {
  public var name: String
  public var value: String
  public init(_ name: String, _ value: String) {
    self.name = String(decoding: name.utf8.map(ASCII.lowercased), as: UTF8.self)
    self.value = value
  }
}

extension [HTTPField] {
  fileprivate func write(into output: inout [UInt8]) -> Bool {
    for field in self {
      let value = Array<UInt8>(field.value.utf8)
      guard let name = HeaderName(field.name), HeaderBlock.isFieldValue(value.span) else { return false }
      if name.known == .contentLength || name.known == .transferEncoding || name.known == .connection { continue }
      output.append(contentsOf: name.bytes)
      output.append(contentsOf: ": ".utf8)
      output.append(contentsOf: value)
      output.append(contentsOf: "\r\n".utf8)
    }
    return true
  }
}

extension HeaderBlock {
  /// The fields that were not removed, as plain values.
  public var plainFields: [HTTPField] {
    fields.filter { !$0.isRemoved }.map { HTTPField(text($0.name), text($0.value)) }
  }
}

/// Collects whole requests from the bytes of one connection, for small servers.
public struct RequestReader: Sendable {
  private var buffer: [UInt8] = []
  private var parser: RequestParser
  private var head = RequestHead()
  private var body: (decoder: BodyDecoder, bytes: [UInt8])?
  private let bodyBytesMax: Int

  public init(options: RequestParser.Options = RequestParser.Options(), bodyBytesMax: Int = 1 << 20) {
    parser = RequestParser(options: options)
    self.bodyBytesMax = bodyBytesMax
  }

  /// True when the head of the request being read asked for `100 Continue` and its body has not begun.
  public var awaitsContinue: Bool { body != nil && head.expectsContinue && buffer.isEmpty && body?.bytes.isEmpty == true }

  public mutating func receive(_ bytes: some Sequence<UInt8>) { buffer.append(contentsOf: bytes) }

  /// The next whole request, or nil when more bytes are needed. After an error the connection must be closed.
  public mutating func next() throws(MessageError) -> HTTPRequest? {
    if body == nil {
      let received = buffer
      guard let used = try parser.parse(received.span, from: 0, into: &head) else { return nil }
      buffer.removeFirst(used)
      body = (BodyDecoder(head.framing), [])
    }
    guard try collect(&body, &buffer, max: bodyBytesMax) else { return nil }
    let bytes = body?.bytes ?? []
    body = nil
    var request = HTTPRequest(
      head.headers.text(head.methodName), head.headers.text(head.path), query: head.query.map(head.headers.text),
      authority: head.headers.text(head.authority), headers: head.headers.plainFields, body: bytes)
    request.keepsAlive = head.keepsAlive
    return request
  }
}

/// Collects whole responses from the bytes of one connection, for small clients. Interim responses are skipped.
public struct ResponseReader: Sendable {
  private var buffer: [UInt8] = []
  private var parser = ResponseParser()
  private var head = ResponseHead()
  private var body: (decoder: BodyDecoder, bytes: [UInt8])?
  private let bodyBytesMax: Int
  private let method: HTTPMethod

  public init(answering method: HTTPMethod = .get, bodyBytesMax: Int = 16 << 20) {
    self.method = method
    self.bodyBytesMax = bodyBytesMax
  }

  public mutating func receive(_ bytes: some Sequence<UInt8>) { buffer.append(contentsOf: bytes) }

  /// The next whole response, or nil when more bytes are needed.
  public mutating func next() throws(MessageError) -> HTTPResponse? {
    while body == nil {
      let received = buffer
      guard let used = try parser.parse(received.span, from: 0, answering: method, into: &head) else { return nil }
      buffer.removeFirst(used)
      if !head.isInterim { body = (BodyDecoder(head.framing), []) }
    }
    guard try collect(&body, &buffer, max: bodyBytesMax) else { return nil }
    return take()
  }

  /// Tells that the peer closed; an until-close body is then complete.
  public mutating func finish() throws(MessageError) -> HTTPResponse? {
    guard body != nil else {
      if buffer.isEmpty { return nil }
      throw MessageError(.endedEarly)
    }
    try body?.decoder.finish()
    return take()
  }

  private mutating func take() -> HTTPResponse {
    var response = HTTPResponse(status: head.status, headers: head.headers.plainFields, body: body?.bytes ?? [])
    response.keepsAlive = head.keepsAlive
    body = nil
    return response
  }
}

/// Moves body bytes out of `buffer`; true when the body is complete.
private func collect(
  _ body: inout (decoder: BodyDecoder, bytes: [UInt8])?, _ buffer: inout [UInt8], max: Int
) throws(MessageError) -> Bool {
  guard var current = body else { return false }
  body = nil
  var position = 0
  var isComplete = false
  loop: while true {
    switch try current.decoder.next(buffer.span, from: &position) {
    case .data(let range):
      guard current.bytes.count + range.count <= max else { throw MessageError(.bodyTooLarge, status: 413) }
      current.bytes.append(contentsOf: buffer[range])
    case .needMore: break loop
    case .end:
      isComplete = true
      break loop
    }
  }
  buffer.removeFirst(position)
  body = current
  return isComplete
}
