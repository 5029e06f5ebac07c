import Primitives

/// The trace a call belongs to (W3C Trace Context: trace-id of 16 bytes, parent-id of 8).
public struct CallTrace: Hashable, Sendable {
  public var traceHigh: UInt64
  public var traceLow: UInt64
  public var span: UInt64

  public init(traceHigh: UInt64, traceLow: UInt64, span: UInt64) {
    self.traceHigh = traceHigh
    self.traceLow = traceLow
    self.span = span
  }

  /// A trace that begins here.
  public static func begun() -> CallTrace {
    CallTrace(traceHigh: .random(in: 1...(.max)), traceLow: .random(in: .min ... .max), span: .random(in: 1...(.max)))
  }

  /// As W3C writes it: version 00, sampled.
  public var traceparent: String { "00-\(Self.hex(traceHigh))\(Self.hex(traceLow))-\(Self.hex(span))-01" }

  private static func hex(_ number: UInt64) -> String {
    let digits = String(number, radix: 16)
    return String(repeating: "0", count: 16 - digits.utf8.count) + digits
  }
}

/// A call with a trace that was served here.
public struct TracedCall: Sendable {
  public let actor: String
  public let caller: NodeName
  public let trace: CallTrace
  /// From its arrival to its reply.
  public let duration: Duration
  /// Whether the reply is an error.
  public let failed: Bool
}

/// What accompanies a remote call besides its arguments, as task-local values on both sides.
public enum RemoteCall {
  @TaskLocal static var inbound: InboundCall?
  @TaskLocal static var timeout: Duration?
  /// The trace that calls of this task belong to. At the callee it is the caller's.
  @TaskLocal public static var trace: CallTrace?

  struct InboundCall: Sendable {
    var caller: NodeName
    var deadline: ContinuousClock.Instant
  }

  /// The node whose call is being served, as its certificate proves it; nil for calls from this process.
  public static var caller: NodeName? { inbound?.caller }

  /// When the caller stops waiting for the call being served; nil for calls from this process.
  public static var deadline: ContinuousClock.Instant? { inbound?.deadline }

  /// Runs `body` with another time limit for the calls it makes. A call served here never outlasts its own caller's.
  nonisolated(nonsending) public static func with<Value>(
    timeout: Duration, _ body: nonisolated(nonsending) () async throws -> Value
  ) async rethrows -> Value {
    try await $timeout.withValue(timeout, operation: body)
  }

  /// The deadline of a call made now.
  static func outboundDeadline(now: ContinuousClock.Instant) -> ContinuousClock.Instant {
    let asked = max(.zero, min(timeout ?? CallLimits.timeoutDefault, CallLimits.timeoutMax))
    let own = now.advanced(by: asked)
    guard let inbound else { return own }
    return min(own, inbound.deadline)
  }
}
