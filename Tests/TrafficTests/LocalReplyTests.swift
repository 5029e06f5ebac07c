import MeshConfig
import Primitives
import Testing
import Traffic

// Envoy, response flags.

private let connectError = "upstream connect error or disconnect/reset before headers. reset reason: "

@Test(
  arguments: [
    (.noRoute, 404, "", "NR", "route_not_found"), (.noCluster(isGatewayAPI: false), 503, "", "NC", "cluster_not_found"),
    (.blackHole, 502, "", "-", "direct_response"),
    (.noHealthyUpstream, 503, "no healthy upstream", "UH", "no_healthy_upstream"),
    (.requestTimeout, 504, "upstream request timeout", "UT", "response_timeout"),
    (.perTryTimeout, 504, "upstream request timeout", "UT", "upstream_per_try_timeout"),
    (
      .upstreamClosed, 503, connectError + "connection termination", "UC",
      "upstream_reset_before_response_started{connection_termination}"
    ),
    (.upstreamReset, 503, connectError + "remote reset", "UR", "upstream_reset_before_response_started{remote_reset}"),
    (.overflow, 503, connectError + "overflow", "UO", "upstream_reset_before_response_started{overflow}"),
    (
      .upstreamProtocolError, 502, connectError + "protocol error", "UPE",
      "upstream_reset_before_response_started{protocol_error}"
    ),
    (.faultAbort(.http(418)), 418, "fault filter abort", "FI", "fault_filter_abort"),
    (.accessDenied(policy: nil), 403, "RBAC: access denied", "-", "rbac_access_denied_matched_policy[none]"),
    (.rateLimited, 429, "local_rate_limited", "RL", "local_rate_limited"),
    (.lowVersion, 426, "Upgrade Required", "DPE", "low_version"),
    (.malformedRequest(token: "bad host"), 400, "Bad Request", "DPE", "bad_host"),
    (.headersTooLarge, 431, "", "DPE", "headers_too_large"),
  ] as [(ProxyError, UInt16, String, String, String)])
func `each cause has its status, body, flag and details`(
  error: ProxyError, status: UInt16, body: String, flags: String, details: String
) {
  let reply = LocalReply(error)
  #expect(reply.status == status)
  #expect(reply.body == body)
  #expect(reply.flags.text == flags)
  #expect(reply.details == details)
  #expect(reply.isOverloaded == (error == .overflow))
}

@Test func `a failed connection says why, and mentions retries`() {
  let reply = LocalReply(.connectFailed(.refused), isRetried: true)
  #expect(reply.status == 503)
  #expect(reply.flags == .upstreamConnectionFailure)
  #expect(
    reply.body.hasPrefix(
      "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote connection failure"
    ))
  #expect(reply.details.hasPrefix("upstream_reset_before_response_started{remote_connection_failure"))
  #expect(LocalReply(.connectFailed(.dns)).flags == .dnsResolutionFailed)
}

@Test func `details never hold blanks or quotes, whatever a peer said`() {
  let errors: [ProxyError] = [
    .connectFailed(.tls("bad \"certificate\"\n\u{7}é")), .accessDenied(policy: "ns/a b"), .malformedRequest(token: "x\r\ny"),
  ]
  for error in errors {
    #expect(LocalReply(error).details.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != 0x22 })
  }
}

@Test func `no two causes share a details token, but for the two ways of not finding a cluster`() {
  let errors: [ProxyError] = [
    .noRoute, .noCluster(isGatewayAPI: false), .blackHole, .noHealthyUpstream, .requestTimeout, .perTryTimeout,
    .connectFailed(.refused), .connectFailed(.timedOut), .connectFailed(.unreachable), .connectFailed(.dns), .upstreamClosed,
    .upstreamReset, .overflow, .upstreamProtocolError, .faultAbort(.http(500)), .accessDenied(policy: nil), .rateLimited,
    .headersTooLarge, .lowVersion, .bodyTooLarge, .notProcessed, .streamIdle, .overloaded,
  ]
  #expect(Set(errors.map { LocalReply($0).details }).count == errors.count)
}

@Test(arguments: [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14), (500, 2), (418, 2)])
func `gRPC clients see a status mapped from the HTTP one`(status: Int, expected: Int) {
  #expect(LocalReply.grpcStatus(forHTTP: UInt16(status)) == UInt8(expected))
}

@Test func `a gRPC abort carries its own status`() {
  let reply = LocalReply(.faultAbort(.grpc(14)))
  #expect(reply.status == 200)
  #expect(reply.grpcStatus == 14)
}
