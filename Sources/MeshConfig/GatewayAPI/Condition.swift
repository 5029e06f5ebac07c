extension GatewayAPI {
  /// One statement about an object, in the words of its API.
  public struct Condition: Hashable, Sendable {
    public var type: String
    public var isTrue: Bool
    public var reason: String
    public var message: String

    public init(_ type: String, _ isTrue: Bool, _ reason: String, _ message: String = "") {
      self.type = type
      self.isTrue = isTrue
      self.reason = reason
      self.message = message
    }

    static let accepted = Condition("Accepted", true, "Accepted")
    static let programmed = Condition("Programmed", true, "Programmed")
    static let resolved = Condition("ResolvedRefs", true, "ResolvedRefs")
    static let unconflicted = Condition("Conflicted", false, "NoConflicts")
  }

  /// Why a reference leads nowhere.
  struct ReferenceProblem: Error, Hashable {
    let reason: String
    let message: String
  }
}
