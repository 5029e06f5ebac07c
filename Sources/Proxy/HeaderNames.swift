import HTTPCodec
import Primitives

/// Field names and values the data plane writes, made ready once.
enum Names {
  static let connection = name(.connection)
  static let requestID = name(.requestID)
  static let forwardedFor = name(.forwardedFor)
  static let forwardedProto = name(.forwardedProto)
  static let forwardedHost = name(.forwardedHost)
  static let forwardedPort = HeaderName("x-forwarded-port")
  static let forwardedClientCert = name(.forwardedClientCert)
  static let attemptCount = name(.attemptCount)
  static let serviceTime = name(.upstreamServiceTime)
  static let originalPath = name(.originalPath)
  static let notProcessed = name(.notProcessed)
  static let meshSource = name(.meshSource)
  static let headerCase = name(.headerCase)
  static let server = name(.server)
  static let setCookie = name(.setCookie)
  static let location = name(.location)
  static let contentType = name(.contentType)
  static let contentLength = name(.contentLength)
  static let overloaded = name(.overloaded)
  static let grpcStatus = name(.grpcStatus)
  static let te = name(.te)
  static let grpcMessage = name(.grpcMessage)
  static let expectedTimeout = name(.expectedTimeout)
  static let date = name(.date)

  static let forwardedHTTP = line(.forwardedProto, "http")
  static let forwardedHTTPS = line(.forwardedProto, "https")
  static let serverEnvoy = line(.server, "envoy")
  static let serverIstioEnvoy = line(.server, "istio-envoy")

  static let yes = Array("true".utf8)
  static let http = Array("http".utf8)
  static let upgradeValue = Array("upgrade".utf8)
  static let envoyPrefix = Array("x-envoy-".utf8)
  static let istioEnvoy = Array("istio-envoy".utf8)
  static let envoy = Array("envoy".utf8)
  static let plainText = Array("text/plain".utf8)
  static let grpc = Array("application/grpc".utf8)
  static let trailers = Array("trailers".utf8)

  /// Fields with a meaning inside the mesh, or that only the proxy writes.
  static let neverFromClients = KnownHeaders([
    .originalPath, .decoratorOperation, .peerMetadata, .peerMetadataID, .notProcessed, .meshSource, .headerCase,
  ])
  /// What callers inside the mesh ask of the proxy for one request.
  static let wishes = KnownHeaders([
    .upstreamTimeout, .upstreamPerTryTimeout, .retryOn, .retryGRPCOn, .maxRetries, .retriableStatusCodes, .retriableHeaderNames,
  ])
  static let neverToClients = KnownHeaders([
    .decoratorOperation, .peerMetadata, .peerMetadataID, .notProcessed, .meshSource, .headerCase,
  ])
  /// What requests carry between nodes, and nowhere else.
  static let betweenNodes = KnownHeaders([.meshSource, .headerCase])

  private static func line(_ known: KnownHeader, _ value: String) -> HeaderLine {
    guard let line = HeaderLine(name(known), Array(value.utf8)) else { preconditionFailure("'\(value)' is no value") }
    return line
  }

  private static func name(_ known: KnownHeader) -> HeaderName {
    guard let name = HeaderName(known) else { preconditionFailure("\(known) has no name") }
    return name
  }
}

extension Bytes {
  /// ASCII case-insensitive prefix test with lower-case bytes.
  static func hasPrefix(lowercase bytes: Span<UInt8>, _ prefix: [UInt8]) -> Bool {
    guard bytes.count >= prefix.count else { return false }
    for i in prefix.indices where ASCII.lowercased(bytes[i]) != prefix[i] { return false }
    return true
  }
}
