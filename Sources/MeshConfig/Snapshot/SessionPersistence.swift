/// Sessions that stay with the endpoint their first request went to (Gateway API, `sessionPersistence`). A class, so that routes
/// without one carry one word.
public final class SessionPersistence: Sendable {
  /// What carries a session from request to request.
  public enum Carrier: Sendable, Hashable {
    case cookie(path: String)
    /// The proxy tells it in a response field, and clients send it back in a request field of the same name.
    case header
  }
  /// Of the cookie; of the field in lower case.
  public let name: [UInt8]
  public let carrier: Carrier
  /// How long a session lasts at most, in whole seconds.
  public let absoluteTimeout: Duration?
  /// How long it lasts without a request, in whole seconds.
  public let idleTimeout: Duration?
  /// Whether the cookie outlives the browser, for as long as the session lasts.
  public let isPermanent: Bool

  public init(
    name: [UInt8], carrier: Carrier, absoluteTimeout: Duration? = nil, idleTimeout: Duration? = nil, isPermanent: Bool = false
  ) {
    self.name = name
    self.carrier = carrier
    self.absoluteTimeout = absoluteTimeout
    self.idleTimeout = idleTimeout
    self.isPermanent = isPermanent
  }
}
