/// The request methods that framing, retries or routing know; every other token is `other`.
public enum HTTPMethod: UInt8, Hashable, Sendable {
  case get, head, post, put, delete, connect, options, trace, patch, other

  init(_ bytes: Span<UInt8>) {
    func has(_ text: StaticString) -> Bool {
      text.withUTF8Buffer { name in
        guard name.count == bytes.count else { return false }
        for i in bytes.indices where unsafe name[i] != bytes[i] { return false }
        return true
      }
    }
    guard bytes.count >= 3 else {
      self = .other
      return
    }
    switch bytes[0] {
    case 0x47 where has("GET"): self = .get
    case 0x48 where has("HEAD"): self = .head
    case 0x50 where has("POST"): self = .post
    case 0x50 where has("PUT"): self = .put
    case 0x50 where has("PATCH"): self = .patch
    case 0x44 where has("DELETE"): self = .delete
    case 0x43 where has("CONNECT"): self = .connect
    case 0x4F where has("OPTIONS"): self = .options
    case 0x54 where has("TRACE"): self = .trace
    default: self = .other
    }
  }

  /// RFC 9110 9.2.2: doing it twice has the effect of doing it once.
  public var isIdempotent: Bool {
    switch self {
    case .get, .head, .put, .delete, .options, .trace: true
    case .post, .connect, .patch, .other: false
    }
  }
}

/// How a message body ends (RFC 9112 6.3).
public enum BodyFraming: Hashable, Sendable {
  case none
  case length(UInt64)
  /// Of unknown length: chunked coding in HTTP/1, up to END_STREAM in HTTP/2.
  case chunked
  /// A response body that ends with the connection.
  case untilClose
}

public enum HTTPVersion: Hashable, Sendable { case http10, http11, http2 }

/// The forms of a request target (RFC 9112 3.2).
public enum TargetForm: Hashable, Sendable { case origin, absolute, authority, asterisk }
