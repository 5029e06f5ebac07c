import Primitives

/// Why the process cannot start as asked; exit code 2.
struct UsageError: Error, Hashable, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// The name and port of a service called, from the environment's `<NAME>_HOSTNAME`, `<NAME>_SERVICE_PORT` and `SERVICES_DOMAIN`.
struct ServiceAddress: Hashable, Sendable {
  var host: String
  var port: UInt16

  init(of service: String, in environment: Environment) throws(UsageError) {
    let prefix = service.uppercased()
    let domain = environment.nonEmpty("SERVICES_DOMAIN").map { "." + $0 } ?? ""
    host = (environment.nonEmpty("\(prefix)_HOSTNAME") ?? service) + domain
    port = try environment.port("\(prefix)_SERVICE_PORT") ?? 9080
  }
}

extension Environment {
  /// The port a variable holds; nil when it is unset or empty.
  func port(_ name: String) throws(UsageError) -> UInt16? {
    guard let text = nonEmpty(name) else { return nil }
    guard let port = parseDecimal(text.utf8, max: 65_535), port > 0 else {
      throw UsageError("\(name)='\(text)' is not a port: give a number from 1 to 65535")
    }
    return UInt16(port)
  }
}
