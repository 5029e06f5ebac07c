/// The well-known forms in which EnvoyFilters set a local rate limit: the filter itself with a bucket, or routes with a
/// per-filter configuration (Istio, "Enabling Rate Limits using Envoy").
struct LocalRateLimitPatch: FieldDecodable {
  static let filter = "envoy.filters.http.local_ratelimit"

  private(set) var limit: LocalRateLimit?

  init(_ fields: inout Fields) {
    if fields.has("name") {
      guard fields.string("name") == Self.filter else {
        fields.ignoreOthers()
        return
      }
      let config: TypedConfig? = fields.either("typed_config", "typedConfig")
      limit = config?.settings?.limit
    } else {
      let config: PerFilter? = fields.either("typed_per_filter_config", "typedPerFilterConfig")
      limit = config?.settings?.limit
    }
    fields.ignoreOthers()
  }

  private struct PerFilter: FieldDecodable {
    var settings: Settings?
    init(_ fields: inout Fields) {
      let config: TypedConfig? = fields.object(LocalRateLimitPatch.filter)
      settings = config?.settings
      fields.ignoreOthers()
    }
  }

  /// The message itself, or wrapped as a `TypedStruct`.
  private struct TypedConfig: FieldDecodable {
    var settings: Settings?
    init(_ fields: inout Fields) {
      if fields.has("value") {
        settings = fields.object("value")
      } else {
        settings = Settings(&fields)
      }
      fields.ignoreOthers()
    }
  }

  private struct Settings: FieldDecodable {
    var limit: LocalRateLimit?
    init(_ fields: inout Fields) {
      let bucket: Bucket? = fields.either("token_bucket", "tokenBucket")
      // Envoy counts and enforces nothing until both are written.
      let enabled: Share? = fields.either("filter_enabled", "filterEnabled")
      let enforced: Share? = fields.either("filter_enforced", "filterEnforced")
      let status: Status? = fields.object("status")
      let headers: [Header] =
        fields.has("response_headers_to_add") ? fields.list("response_headers_to_add") : fields.list("responseHeadersToAdd")
      let standing = fields.string("enable_x_ratelimit_headers") ?? fields.string("enableXRatelimitHeaders")
      if fields.has("descriptors") {
        fields.report.notEnforced(fields.path / "descriptors", "the limit of the whole route applies alone")
      }
      fields.ignoreOthers()
      guard let bucket = bucket?.policy else { return }
      limit = LocalRateLimit(
        bucket: bucket, enabledPartsPerMillion: enabled?.partsPerMillion ?? 0,
        enforcedPartsPerMillion: enforced?.partsPerMillion ?? 0, status: status?.code ?? 429,
        responseHeaders: headers.compactMap(\.field), addsStanding: standing == "DRAFT_VERSION_03")
    }
  }

  private struct Bucket: FieldDecodable {
    var policy: LocalRateLimit.Bucket?
    init(_ fields: inout Fields) {
      let range = 1...Int(UInt32.max)
      let most = fields.int(fields.has("max_tokens") ? "max_tokens" : "maxTokens", in: range)
      let perFill = fields.int(fields.has("tokens_per_fill") ? "tokens_per_fill" : "tokensPerFill", in: range)
      let interval = fields.duration(fields.has("fill_interval") ? "fill_interval" : "fillInterval", min: .milliseconds(50))
      fields.ignoreOthers()
      guard let most, let interval else { return }
      policy = LocalRateLimit.Bucket(maxTokens: most, tokensPerFill: perFill ?? 1, fillInterval: interval)
    }
  }

  /// `RuntimeFractionalPercent`; there is no runtime here, so its default holds.
  private struct Share: FieldDecodable {
    var partsPerMillion: UInt32 = 0
    init(_ fields: inout Fields) {
      let value: Fraction? = fields.either("default_value", "defaultValue")
      partsPerMillion = value?.partsPerMillion ?? 0
      fields.ignoreOthers()
    }
  }

  private struct Fraction: FieldDecodable {
    private enum Denominator: String, CaseIterable {
      case hundred = "HUNDRED"
      case tenThousand = "TEN_THOUSAND"
      case million = "MILLION"
      var parts: Int { self == .hundred ? 10_000 : self == .tenThousand ? 100 : 1 }
    }
    var partsPerMillion: UInt32
    init(_ fields: inout Fields) {
      let denominator: Denominator = fields.name("denominator") ?? .hundred
      let numerator = fields.int("numerator", in: 0...1_000_000) ?? 0
      partsPerMillion = UInt32(min(1_000_000, numerator * denominator.parts))
    }
  }

  private struct Status: FieldDecodable {
    var code: UInt16?
    init(_ fields: inout Fields) {
      if fields.has("code") { code = fields.int("code", in: 100...599).map { UInt16($0) } }
    }
  }

  private struct Header: FieldDecodable {
    private struct Pair: FieldDecodable {
      var key: String
      var value: String
      init(_ fields: inout Fields) {
        key = fields.requiredString("key")
        value = fields.string("value") ?? ""
        fields.ignoreOthers()
      }
    }
    var field: HeaderOperations.Field?
    init(_ fields: inout Fields) {
      let pair: Pair? = fields.object("header")
      fields.ignoreOthers()
      guard let pair, NameForm.isFieldName(pair.key) else { return }
      field = HeaderOperations.Field(name: Array(pair.key.lowercased().utf8), value: Array(pair.value.utf8))
    }
  }
}

extension Fields {
  /// A field of a Protobuf message, which has two spellings in JSON.
  fileprivate mutating func either<T: FieldDecodable>(_ snake: String, _ camel: String) -> T? {
    has(snake) ? object(snake) : object(camel)
  }
}
