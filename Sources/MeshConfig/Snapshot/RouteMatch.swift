/// One alternative; all of its conditions must hold (VirtualService `http[].match[]`).
public struct RouteMatch: Sendable {
  /// On the path without query.
  public var path: PathMatch?
  public var ignorePathCase: Bool
  public var scheme: StringMatch?
  public var method: StringMatch?
  /// Host as sent, port included.
  public var authority: StringMatch?
  public var headers: [FieldMatch]
  public var withoutHeaders: [FieldMatch]
  public var queryParameters: [FieldMatch]
  public var name: String?

  public init(
    path: PathMatch? = nil, ignorePathCase: Bool = false, scheme: StringMatch? = nil, method: StringMatch? = nil,
    authority: StringMatch? = nil, headers: [FieldMatch] = [], withoutHeaders: [FieldMatch] = [],
    queryParameters: [FieldMatch] = [], name: String? = nil
  ) {
    self.path = path
    self.ignorePathCase = ignorePathCase
    self.scheme = scheme
    self.method = method
    self.authority = authority
    self.headers = headers
    self.withoutHeaders = withoutHeaders
    self.queryParameters = queryParameters
    self.name = name
  }
}

public enum PathMatch: Sendable {
  case exact([UInt8])
  /// Plain string prefix (VirtualService).
  case prefix([UInt8])
  /// Segment-wise prefix without trailing slash (Gateway API).
  case segmentPrefix([UInt8])
  case regex(Pattern)
}

public enum StringMatch: Sendable {
  case exact([UInt8])
  case prefix([UInt8])
  case regex(Pattern)
  /// Any value, empty included.
  case present
}

/// A condition on a header (name lower case; pseudo-headers `:method`, `:path`, `:authority`, `:scheme`) or a query parameter.
public struct FieldMatch: Sendable {
  public var name: [UInt8]
  public var match: StringMatch
  public init(name: [UInt8], match: StringMatch) {
    self.name = name
    self.match = match
  }
}
