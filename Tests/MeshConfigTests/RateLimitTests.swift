import Primitives
import Testing

@testable import MeshConfig

@Suite struct RateLimitTests {
  private func filter(_ patches: String, selector: String = "app: reviews") -> String {
    """
    workloadSelector: { labels: { \(selector) } }
    configPatches:
    \(patches)
    """
  }

  private let whole = """
    - applyTo: HTTP_FILTER
      match: { context: SIDECAR_INBOUND }
      patch:
        operation: INSERT_BEFORE
        value:
          name: envoy.filters.http.local_ratelimit
          typed_config:
            "@type": type.googleapis.com/udpa.type.v1.TypedStruct
            type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
            value:
              stat_prefix: http_local_rate_limiter
              token_bucket: { max_tokens: 4, tokens_per_fill: 2, fill_interval: 60s }
              filter_enabled: { runtime_key: a, default_value: { numerator: 100, denominator: HUNDRED } }
              filter_enforced: { runtime_key: b, default_value: { numerator: 5000, denominator: TEN_THOUSAND } }
              status: { code: 503 }
              response_headers_to_add:
                - append: false
                  header: { key: x-local-rate-limit, value: "true" }

    """

  private func limit(_ spec: String, namespace: String = "default", of workload: WorkloadRecord) throws -> LocalRateLimit? {
    let object = Fixture.object("EnvoyFilter", "limit", namespace: namespace, spec: spec)
      .replacing("networking.istio.io/v1\n", with: "networking.istio.io/v1alpha3\n")
    let (snapshot, _) = try Fixture.compile(object, [workload])
    return snapshot.localWorkloads.first?.rateLimit
  }

  @Test func `a filter with a bucket limits the workloads it selects`() throws {
    let reviews = try Fixture.workload("reviews", "v1", node: "n1")
    let limit = try #require(try limit(filter(whole), of: reviews))
    #expect(limit.bucket == LocalRateLimit.Bucket(maxTokens: 4, tokensPerFill: 2, fillInterval: .seconds(60)))
    #expect(limit.enabledPartsPerMillion == 1_000_000 && limit.enforcedPartsPerMillion == 500_000)
    #expect(limit.status == 503 && limit.responseHeaders.map(\.value) == [Array("true".utf8)])
    #expect(try self.limit(filter(whole, selector: "app: ratings"), of: reviews) == nil)
    #expect(try self.limit(filter(whole), namespace: "other", of: reviews) == nil)
    #expect(try self.limit(filter(whole), namespace: "istio-system", of: reviews) != nil)
  }
}
