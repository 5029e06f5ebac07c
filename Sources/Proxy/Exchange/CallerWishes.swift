import HTTPCodec
import MeshConfig
import Primitives
import Traffic
import Transport

/// What a caller inside the mesh asks for one request, over what its route says (Envoy, "Router", HTTP headers): gateways
/// take such fields away unread.
struct CallerWishes {
  var conditions: RetryConditions = []
  /// Sorted.
  var statusCodes: [UInt16] = []
  /// Of responses that are worth another try.
  var headerNames: [HeaderName] = []
  var attempts: Int?
  /// Zero: without limit.
  var timeout: Duration?
  var perTryTimeout: Duration?

  /// Conditions come on top of those of the route; Envoy tries once more where nobody has said how often.
  func adding(to written: RetryPolicy?) -> RetryPolicy? {
    guard written != nil || !conditions.isEmpty else { return nil }
    var policy = written ?? RetryPolicy(attempts: 1, conditions: [])
    policy.conditions.formUnion(conditions)
    if !statusCodes.isEmpty { policy.statusCodes = Array(Set(policy.statusCodes + statusCodes)).sorted() }
    if let attempts { policy.attempts = attempts }
    return policy
  }
}

extension Exchange {
  /// Takes the caller's wishes out of the request: they are for this proxy alone.
  func readWishes() {
    guard !isGateway, head.headers.mayContain(anyOf: Names.wishes) else { return }
    if caller.isInside(forwardedFor: head.headers) {
      var wishes = CallerWishes()
      wishes.conditions = conditions(.retryOn).subtracting(.grpc).union(conditions(.retryGRPCOn).intersection(.grpc))
      wishes.statusCodes = list(.retriableStatusCodes).compactMap { parseDecimal($0, max: 599).map { UInt16($0) } }.sorted()
      wishes.headerNames = list(.retriableHeaderNames).compactMap { HeaderName(bytes: $0) }
      wishes.attempts = number(.maxRetries, max: TrafficLimits.callerRetriesMax).map { Int($0) }
      wishes.timeout = milliseconds(.upstreamTimeout)
      wishes.perTryTimeout = milliseconds(.upstreamPerTryTimeout)
      self.wishes = wishes
    }
    head.headers.remove(Names.wishes)
  }

  private func conditions(_ field: KnownHeader) -> RetryConditions {
    RetryConditions(words: String(decoding: Array(list(field).joined(separator: [0x2C])), as: UTF8.self))
  }

  /// The members of a comma-separated field, without blanks; as many as anybody needs.
  private func list(_ field: KnownHeader) -> [[UInt8]] {
    guard let value = head.headers.value(field) else { return [] }
    return head.headers.copy(value).split(separator: 0x2C, maxSplits: TrafficLimits.callerListMax).prefix(
      TrafficLimits.callerListMax
    ).map { $0.filter { $0 != 0x20 && $0 != 0x09 } }
  }

  private func number(_ field: KnownHeader, max: UInt64) -> UInt64? {
    head.headers.value(field).flatMap { parseDecimal(head.headers.copy($0), max: .max) }.map { min($0, max) }
  }

  private func milliseconds(_ field: KnownHeader) -> Duration? {
    number(field, max: TrafficLimits.callerTimeoutMillisecondsMax).map { .milliseconds(Int64($0)) }
  }

  /// How long one try may take; nil where only the whole request is limited. A limit that is no shorter than that of the
  /// whole is none.
  var perTryTimeout: Duration? {
    guard let limit = wishes?.perTryTimeout ?? facts.perTryTimeout, limit > .zero else { return nil }
    if let total = wishes?.timeout ?? facts.timeout, total > .zero, limit >= total { return nil }
    return limit
  }

  /// Tells the server how long its answer is waited for.
  func announceTimeLimit() {
    var limit = perTryTimeout
    if deadline != .distantFuture { limit = min(limit ?? (deadline - now), deadline - now) }
    guard let limit, limit > .zero else { return }
    head.headers.set(Names.expectedTimeout, number: milliseconds(limit))
  }
}

extension Caller {
  /// Whether it is the first and only one to have sent the request, and within the site: what others say for somebody from
  /// outside is not believed (Envoy, "internal requests").
  func isInside(forwardedFor headers: HeaderBlock) -> Bool {
    guard let value = headers.value(.forwardedFor) else { return address.ip?.isOfSite ?? true }
    return IPAddress(headers.text(value))?.isOfSite ?? false
  }
}

extension IPAddress {
  /// RFC 1918, RFC 4193, or this very host.
  fileprivate var isOfSite: Bool {
    if isLoopback { return true }
    let bytes = unmapped.bytes
    guard bytes.count == 4 else { return bytes.first.map { $0 & 0xFE == 0xFC } ?? false }
    return bytes[0] == 10 || bytes[0] == 172 && bytes[1] & 0xF0 == 16 || bytes[0] == 192 && bytes[1] == 168
  }
}
