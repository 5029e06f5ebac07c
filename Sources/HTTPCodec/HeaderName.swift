import Primitives

/// Field names that framing, routing or the proxy itself look at, so that finding them compares one byte.
public enum KnownHeader: UInt8, Hashable, Sendable, CaseIterable {
  case other = 0
  case host, contentLength, transferEncoding, connection, keepAlive, proxyConnection, expect, upgrade, te, trailer
  case proxyAuthenticate, proxyAuthorization
  case date, server, via, location, contentType, userAgent, authorization, cookie, setCookie, origin
  case accessControlRequestMethod, accessControlRequestHeaders
  case requestID, forwardedFor, forwardedProto, forwardedHost, forwardedClientCert
  case attemptCount, upstreamServiceTime, originalPath, decoratorOperation, overloaded, ratelimited
  case peerMetadata, peerMetadataID, upstreamTimeout, upstreamPerTryTimeout, expectedTimeout
  case retryOn, retryGRPCOn, maxRetries, retriableStatusCodes, retriableHeaderNames
  case notProcessed, meshSource, headerCase
  case grpcTimeout, grpcStatus, grpcMessage, traceparent, tracestate

  /// The lower-case name on the wire; empty for `other`.
  public var name: String {
    switch self {
    case .other: ""
    case .host: "host"
    case .contentLength: "content-length"
    case .transferEncoding: "transfer-encoding"
    case .connection: "connection"
    case .keepAlive: "keep-alive"
    case .proxyConnection: "proxy-connection"
    case .expect: "expect"
    case .upgrade: "upgrade"
    case .te: "te"
    case .trailer: "trailer"
    case .proxyAuthenticate: "proxy-authenticate"
    case .proxyAuthorization: "proxy-authorization"
    case .date: "date"
    case .server: "server"
    case .via: "via"
    case .location: "location"
    case .contentType: "content-type"
    case .userAgent: "user-agent"
    case .authorization: "authorization"
    case .cookie: "cookie"
    case .setCookie: "set-cookie"
    case .origin: "origin"
    case .accessControlRequestMethod: "access-control-request-method"
    case .accessControlRequestHeaders: "access-control-request-headers"
    case .requestID: "x-request-id"
    case .forwardedFor: "x-forwarded-for"
    case .forwardedProto: "x-forwarded-proto"
    case .forwardedHost: "x-forwarded-host"
    case .forwardedClientCert: "x-forwarded-client-cert"
    case .attemptCount: "x-envoy-attempt-count"
    case .upstreamServiceTime: "x-envoy-upstream-service-time"
    case .originalPath: "x-envoy-original-path"
    case .decoratorOperation: "x-envoy-decorator-operation"
    case .overloaded: "x-envoy-overloaded"
    case .ratelimited: "x-envoy-ratelimited"
    case .peerMetadata: "x-envoy-peer-metadata"
    case .peerMetadataID: "x-envoy-peer-metadata-id"
    case .upstreamTimeout: "x-envoy-upstream-rq-timeout-ms"
    case .upstreamPerTryTimeout: "x-envoy-upstream-rq-per-try-timeout-ms"
    case .expectedTimeout: "x-envoy-expected-rq-timeout-ms"
    case .retryOn: "x-envoy-retry-on"
    case .retryGRPCOn: "x-envoy-retry-grpc-on"
    case .maxRetries: "x-envoy-max-retries"
    case .retriableStatusCodes: "x-envoy-retriable-status-codes"
    case .retriableHeaderNames: "x-envoy-retriable-header-names"
    case .notProcessed: "x-mesh-not-processed"
    case .meshSource: "x-mesh-source"
    case .headerCase: "x-mesh-header-case"
    case .grpcTimeout: "grpc-timeout"
    case .grpcStatus: "grpc-status"
    case .grpcMessage: "grpc-message"
    case .traceparent: "traceparent"
    case .tracestate: "tracestate"
    }
  }
}

/// A lower-case field name made ready for lookups: its bytes, hash and known id.
public struct HeaderName: Hashable, Sendable {
  public let bytes: [UInt8]
  /// The name with colon and blank: how a line of it begins.
  let prefix: [UInt8]
  public let hash: UInt32
  public let known: KnownHeader

  /// Nil when `text` is not a token (RFC 9110 5.1).
  public init?(_ text: String) { self.init(bytes: text.utf8) }

  public init?(bytes raw: some Sequence<UInt8>) {
    let bytes = raw.map(ASCII.lowercased)
    guard !bytes.isEmpty, bytes.count <= Int(UInt16.max), bytes.allSatisfy({ ByteClass.has($0, ByteClass.token) }) else {
      return nil
    }
    self.bytes = bytes
    prefix = bytes + [0x3A, 0x20]
    hash = Self.hash(bytes.span)
    known = KnownHeaderTable.shared.find(bytes.span, hash: hash)
  }

  public init?(_ known: KnownHeader) { self.init(known.name) }

  /// FNV-1a over ASCII-lower-cased bytes: names are short, and a collision only costs a comparison.
  static func hash(_ name: Span<UInt8>) -> UInt32 {
    var hash = hashSeed
    for i in name.indices { hash = hashed(hash, ASCII.lowercased(name[i])) }
    return hash
  }
  static let hashSeed: UInt32 = 0x811C_9DC5
  @inline(__always) static func hashed(_ hash: UInt32, _ lowercased: UInt8) -> UInt32 {
    (hash ^ UInt32(lowercased)) &* 0x0100_0193
  }
}

/// A field with a fixed value, made ready so that adding it is one copy.
public struct HeaderLine: Hashable, Sendable {
  public let name: HeaderName
  /// The whole line with its CRLF.
  let bytes: [UInt8]

  /// Nil when the value holds control bytes.
  public init?(_ name: HeaderName, _ value: [UInt8]) {
    guard HeaderBlock.isFieldValue(value.span) else { return nil }
    self.name = name
    bytes = name.prefix + value + [0x0D, 0x0A]
  }
}

/// A set of known names.
public struct KnownHeaders: Hashable, Sendable {
  private var bits: UInt64 = 0

  public init() {}

  public init(_ names: [KnownHeader]) {
    for name in names { insert(name) }
  }

  /// `other` is never a member.
  @inline(__always) mutating func insert(_ name: KnownHeader) {
    if name != .other { bits |= 1 << UInt64(name.rawValue) }
  }

  @inline(__always) func contains(_ name: KnownHeader) -> Bool { bits & (1 << UInt64(name.rawValue)) != 0 }
  @inline(__always) func intersects(_ names: KnownHeaders) -> Bool { bits & names.bits != 0 }
}

/// Finds the known id of a name by hash, in a table of 256 slots with linear probing.
struct KnownHeaderTable: Sendable {
  static let shared = KnownHeaderTable()
  private static let nameBytes = 64

  private struct Slot: Sendable {
    var hash: UInt32 = 0
    var known = KnownHeader.other
    var length: UInt8 = 0
  }
  private var slots = [Slot](repeating: Slot(), count: 256)
  /// The names, each at 64 times its raw value.
  private var names: [UInt8]

  private init() {
    names = Array(repeating: 0, count: KnownHeader.allCases.count * Self.nameBytes)
    for known in KnownHeader.allCases where known != .other {
      let name = Array(known.name.utf8.prefix(Self.nameBytes))
      let hash = HeaderName.hash(name.span)
      var slot = Self.slot(of: hash)
      while slots[slot].known != .other { slot = (slot + 1) & 255 }
      slots[slot] = Slot(hash: hash, known: known, length: UInt8(truncatingIfNeeded: name.count))
      for (index, byte) in name.enumerated() { names[Int(known.rawValue) * Self.nameBytes + index] = byte }
    }
  }

  private static func slot(of hash: UInt32) -> Int { Int((hash ^ (hash >> 16) ^ (hash >> 8)) & 255) }

  func find(_ name: Span<UInt8>, hash: UInt32) -> KnownHeader {
    var slot = Self.slot(of: hash)
    while slots[slot].known != .other {
      if slots[slot].hash == hash, Int(slots[slot].length) == name.count {
        let start = Int(slots[slot].known.rawValue) * Self.nameBytes
        let candidate = names.span.extracting(start..<(start + name.count))
        if Bytes.equalIgnoringCase(name, lowercased: candidate) { return slots[slot].known }
      }
      slot = (slot + 1) & 255
    }
    return .other
  }
}
