import FoundationEssentials

/// The environment variables of the process, as a value so that tests can bring their own.
struct Environment: Sendable {
  let variables: [String: String]

  init(_ variables: [String: String] = [:]) { self.variables = variables }

  /// What this process was started with.
  static func ofProcess() -> Environment { Environment(ProcessInfo.processInfo.environment) }

  subscript(name: String) -> String? { variables[name] }

  /// A variable that is set and not empty.
  func nonEmpty(_ name: String) -> String? { variables[name].flatMap { $0.isEmpty ? nil : $0 } }

  /// True only for the four letters `true`; in upper case too when `anyCase` is set.
  func isTrue(_ name: String, anyCase: Bool = false) -> Bool {
    let value = variables[name] ?? ""
    return (anyCase ? value.lowercased() : value) == "true"
  }
}
