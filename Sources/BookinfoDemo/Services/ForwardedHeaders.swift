import HTTPCodec
import Primitives

/// The fields of an incoming request that travel on with every call it causes (Istio: "distributed tracing", Bookinfo).
enum ForwardedHeaders {
  static let common = [
    "x-request-id", "x-ot-span-context", "x-datadog-trace-id", "x-datadog-parent-id", "x-datadog-sampling-priority",
    "traceparent", "tracestate", "x-cloud-trace-context", "grpc-trace-bin", "sw8", "user-agent", "cookie", "authorization",
    "jwt",
  ]
  static let b3 = ["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"]

  /// What details and reviews pass on: all of them and `end-user`, as received.
  static func fromService(_ incoming: [HTTPField]) -> [HTTPField] { select(common + b3 + ["end-user"], from: incoming) }

  /// What productpage passes on: `end-user` is the user of the session and never what the client sent; of B3 the trace
  /// id, span id and sampling decision, when the ids are well-formed.
  static func fromProductPage(_ incoming: [HTTPField], user: String?) -> [HTTPField] {
    var outgoing = select(common, from: incoming)
    if isB3ID(incoming["x-b3-traceid"], digits: [16, 32]), isB3ID(incoming["x-b3-spanid"], digits: [16]) {
      outgoing += select(["x-b3-traceid", "x-b3-spanid", "x-b3-sampled"], from: incoming)
    }
    if let user { outgoing.add("end-user", user) }
    return outgoing
  }

  private static func select(_ names: [String], from incoming: [HTTPField]) -> [HTTPField] {
    names.flatMap { name in incoming.filter { $0.name == name } }
  }

  private static func isB3ID(_ value: String?, digits: [Int]) -> Bool {
    guard let value = value?.utf8, digits.contains(value.count) else { return false }
    return value.allSatisfy { ASCII.isDigit($0) || (ASCII.lowercased($0) >= 0x61 && ASCII.lowercased($0) <= 0x66) }
  }
}
