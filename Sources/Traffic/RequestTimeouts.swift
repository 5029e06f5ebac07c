import Primitives

/// Time limits of one request. Every deadline is absolute, so work before a retry counts against it.
public enum RequestTimeouts {
  /// The total time allowed: the caller's own limit, capped by the route's. nil means no limit; so does zero.
  public static func total(route: Duration?, caller: Duration?) -> Duration? {
    switch (positive(route), positive(caller)) {
    case (let route?, let caller?): min(route, caller)
    case (let one?, nil), (nil, let one?): one
    case (nil, nil): nil
    }
  }

  public static func deadline(from start: Instant, total: Duration?) -> Instant {
    total.map { start + $0 } ?? .distantFuture
  }

  /// When one try ends: its own limit, never beyond the request's deadline.
  public static func tryDeadline(from start: Instant, perTry: Duration?, deadline: Instant) -> Instant {
    positive(perTry).map { min(start + $0, deadline) } ?? deadline
  }

  private static func positive(_ duration: Duration?) -> Duration? {
    duration.flatMap { $0 > .zero ? $0 : nil }
  }

  /// Parses `grpc-timeout`: at most eight digits and one of `H M S m u n`; nil when malformed.
  public static func grpcTimeout(_ value: Span<UInt8>) -> Duration? {
    let digits = value.count - 1
    guard digits >= 1, digits <= TrafficLimits.grpcTimeoutDigitsMax else { return nil }
    var number: Int64 = 0
    for index in 0..<digits {
      guard ASCII.isDigit(value[index]) else { return nil }
      number = number * 10 + Int64(value[index] - 0x30)
    }
    switch value[digits] {
    case 0x48: return .seconds(number * 3600)
    case 0x4D: return .seconds(number * 60)
    case 0x53: return .seconds(number)
    case 0x6D: return .milliseconds(number)
    case 0x75: return .microseconds(number)
    case 0x6E: return .nanoseconds(number)
    default: return nil
    }
  }
}
