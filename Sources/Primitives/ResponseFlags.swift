/// Why the mesh answered or ended a request as it did, in Envoy's vocabulary (`%RESPONSE_FLAGS%`, Envoy 1.40).
///
/// Bits are in Envoy's order, so text lists several flags the way dashboards expect them (`UF,URX`).
public struct ResponseFlags: OptionSet, Hashable, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  private init(bit: UInt32) { rawValue = 1 << bit }

  public static let failedLocalHealthCheck = Self(bit: 0)
  public static let noHealthyUpstream = Self(bit: 1)
  public static let upstreamRequestTimeout = Self(bit: 2)
  public static let localReset = Self(bit: 3)
  public static let upstreamRemoteReset = Self(bit: 4)
  public static let upstreamConnectionFailure = Self(bit: 5)
  public static let upstreamConnectionTermination = Self(bit: 6)
  public static let upstreamOverflow = Self(bit: 7)
  public static let noRouteFound = Self(bit: 8)
  public static let delayInjected = Self(bit: 9)
  public static let faultInjected = Self(bit: 10)
  public static let rateLimited = Self(bit: 11)
  public static let unauthorizedExternalService = Self(bit: 12)
  public static let rateLimitServiceError = Self(bit: 13)
  public static let downstreamConnectionTermination = Self(bit: 14)
  public static let upstreamRetryLimitExceeded = Self(bit: 15)
  public static let streamIdleTimeout = Self(bit: 16)
  public static let invalidRequestHeaders = Self(bit: 17)
  public static let downstreamProtocolError = Self(bit: 18)
  public static let upstreamMaxStreamDurationReached = Self(bit: 19)
  public static let responseFromCache = Self(bit: 20)
  public static let noFilterConfigFound = Self(bit: 21)
  public static let durationTimeout = Self(bit: 22)
  public static let upstreamProtocolError = Self(bit: 23)
  public static let noClusterFound = Self(bit: 24)
  public static let overloadManager = Self(bit: 25)
  public static let dnsResolutionFailed = Self(bit: 26)
  public static let dropOverload = Self(bit: 27)

  /// Short names by bit.
  public static let shortNames: [StaticString] = [
    "LH", "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX", "SI", "IH", "DPE",
    "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM", "DF", "DO",
  ]

  /// Appends the short names joined by commas, or `-` when there is none.
  public func append(to bytes: inout [UInt8]) {
    guard !isEmpty else {
      bytes.append(0x2D)
      return
    }
    var isFirst = true
    for (bit, name) in Self.shortNames.enumerated() where rawValue & (1 << UInt32(bit)) != 0 {
      if !isFirst { bytes.append(0x2C) }
      isFirst = false
      name.withUTF8Buffer { unsafe bytes.append(contentsOf: $0) }
    }
  }

  /// Long names by bit.
  private static let longNames: [StaticString] = [
    "FailedLocalHealthCheck", "NoHealthyUpstream", "UpstreamRequestTimeout", "LocalReset", "UpstreamRemoteReset",
    "UpstreamConnectionFailure", "UpstreamConnectionTermination", "UpstreamOverflow", "NoRouteFound", "DelayInjected",
    "FaultInjected", "RateLimited", "UnauthorizedExternalService", "RateLimitServiceError",
    "DownstreamConnectionTermination", "UpstreamRetryLimitExceeded", "StreamIdleTimeout", "InvalidEnvoyRequestHeaders",
    "DownstreamProtocolError", "UpstreamMaxStreamDurationReached", "ResponseFromCacheFilter", "NoFilterConfigFound",
    "DurationTimeout", "UpstreamProtocolError", "NoClusterFound", "OverloadManagerTerminated", "DnsResolutionFailed",
    "DropOverload",
  ]

  /// As above, with long names where asked for.
  public func append(isLong: Bool, to bytes: inout [UInt8]) {
    guard isLong, !isEmpty else { return append(to: &bytes) }
    let names = Self.longNames.enumerated().filter { rawValue & (1 << UInt32($0.offset)) != 0 }
    bytes += names.map { "\($0.element)" }.joined(separator: ",").utf8
  }

  /// Short names joined by commas, or `-`.
  public var text: String {
    var bytes: [UInt8] = []
    append(to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }
}
