import HTTPCodec
import MeshConfig
import Primitives
import Traffic

// Local rate limits: on the side of the workload that is called, or at the gateway that is passed (Envoy, `local_ratelimit`).
extension Exchange {
  private static let standingNames = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
    .compactMap { HeaderName(bytes: Array($0.utf8)) }

  /// False when the limit of a workload of this node refuses the request; it has been answered then.
  func passesRateLimit(of localWorkload: Int?) -> Bool {
    guard let localWorkload, state.rateLimits.indices.contains(localWorkload), let limit = state.rateLimits[localWorkload],
      !limit.admits(at: now, draws: &worker.draws)
    else { return true }
    var answer = ProxyReply(.rateLimited)
    answer.answer.status = limit.policy.status
    if limit.policy.addsStanding {
      let standing = limit.standing(at: now)
      let values = [limit.policy.bucket.maxTokens, standing.remaining, standing.resetSeconds]
      for (name, value) in zip(Self.standingNames, values) { answer.fields.append((name, Array(String(value).utf8))) }
    }
    for field in limit.policy.responseHeaders {
      if let name = HeaderName(bytes: field.name) { answer.fields.append((name, field.value)) }
    }
    reply(answer)
    return false
  }
}
