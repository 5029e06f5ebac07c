/// Which tokens a workload accepts (`security.istio.io` RequestAuthentication).
public struct RequestAuthentication: Hashable, Sendable {
  public var target: PolicyTarget
  public var rules: [Rule]

  public struct Rule: Hashable, Sendable {
    public var issuer: String?
    public var audiences: [String]
    public var jwks: String?
    public var jwksURI: String?
    public var fromHeaders: [Header]
    public var fromParams: [String]
    public var fromCookies: [String]
    public var forwardsOriginalToken: Bool
    public var outputPayloadToHeader: String?
    public var outputClaims: [ClaimHeader]
    public var timeout: Duration?
    public var isRequired: Bool
    public var spaceDelimitedClaims: [String]
  }
  public struct Header: Hashable, Sendable {
    public var name: String
    public var prefix: String
  }
  public struct ClaimHeader: Hashable, Sendable {
    public var header: String
    public var claim: String
  }
}

extension RequestAuthentication: FieldDecodable {
  init(_ fields: inout Fields) {
    target = PolicyTarget(&fields)
    rules = fields.list("jwtRules")
  }
}

extension RequestAuthentication.Rule: FieldDecodable {
  private enum Presence: String, CaseIterable {
    case optional = "OPTIONAL"
    case required = "REQUIRED"
  }

  init(_ fields: inout Fields) {
    issuer = fields.filledString("issuer")
    audiences = fields.filledStrings("audiences")
    jwks = fields.string("jwks")
    let camel = fields.filledString("jwksUri")
    let snake = fields.filledString("jwks_uri")
    jwksURI = camel ?? snake
    fromHeaders = fields.list("fromHeaders")
    fromParams = fields.filledStrings("fromParams")
    fromCookies = fields.filledStrings("fromCookies")
    forwardsOriginalToken = fields.bool("forwardOriginalToken") ?? false
    outputPayloadToHeader = fields.text("outputPayloadToHeader")
    outputClaims = fields.list("outputClaimToHeaders")
    timeout = fields.duration("timeout")
    isRequired = (fields.name("presence") as Presence?) == .required
    spaceDelimitedClaims = fields.filledStrings("spaceDelimitedClaims", maximum: 64)
    if camel != nil && snake != nil { fields.error("jwks_uri", "written twice: jwksUri and jwks_uri are the same field") }
    if jwks != nil && jwksURI != nil { fields.error("jwks", "only one of jwks or jwksUri can be set") }
    if issuer == nil && jwksURI == nil && !fields.report.hasErrors {
      fields.error("issuer", "a rule needs issuer or jwksUri")
    }
    checkKeys(&fields, uriField: camel == nil ? "jwks_uri" : "jwksUri")
    if let name = outputPayloadToHeader, !NameForm.isFieldName(name) {
      fields.error("outputPayloadToHeader", "'\(name.prefix(80))' is not a header name")
    }
  }

  private func checkKeys(_ fields: inout Fields, uriField: String) {
    if let uri = jwksURI {
      let isHTTP = uri.hasPrefix("https://") || uri.hasPrefix("http://")
      if !isHTTP || uri.hasSuffix("://") || uri.utf8.contains(0x20) || uri.utf8.count > 2048 {
        fields.error(uriField, "'\(uri.prefix(80))' is not an http or https URL")
      }
    }
    guard let jwks else { return }
    let (documents, error) = YAMLParser.parse(Array(jwks.utf8))
    guard error == nil, case .sequence(let keys)? = documents.first?["keys"]?.value else {
      fields.error("jwks", "not a JSON Web Key Set: there is no list of keys")
      return
    }
    if keys.contains(where: { $0["d"] != nil }) {
      fields.report.warning(fields.path / "jwks", "holds a private key", hint: "publish public keys only")
    }
  }
}

extension RequestAuthentication.Header: FieldDecodable {
  init(_ fields: inout Fields) {
    name = fields.requiredString("name")
    prefix = fields.string("prefix") ?? ""
    if !name.isEmpty && !NameForm.isFieldName(name) { fields.error("name", "'\(name.prefix(80))' is not a header name") }
  }
}

extension RequestAuthentication.ClaimHeader: FieldDecodable {
  init(_ fields: inout Fields) {
    header = fields.requiredString("header")
    claim = fields.requiredString("claim")
    let isName = header.utf8.allSatisfy { NameForm.isAlphanumeric($0) || $0 == 0x2D || $0 == 0x5F }
    if !header.isEmpty && !isName {
      fields.error("header", "'\(header.prefix(80))' is not a header name")
    }
  }
}
