import Glibc

/// Runs one service of Bookinfo until it is told to stop.
@main
struct BookinfoDemo {
  static func main() {
    do {
      switch try Command(parsing: Array(CommandLine.arguments.dropFirst())) {
      case .help: print(Command.helpText, terminator: "")
      case .serve(let arguments): try serve(arguments, environment: .ofProcess())
      }
    } catch let error as UsageError {
      fail(error.description, code: 2)
    } catch {
      fail("\(error)", code: 1)
    }
  }

  private static func serve(_ arguments: Arguments, environment: Environment) throws {
    let image = try ServiceImage(arguments, environment: environment)
    signal(SIGPIPE, SIG_IGN)
    let stopSignals = StopSignals()
    var settings = HTTPServer.Settings()
    settings.idleTimeout = image.idleTimeout
    let server = try HTTPServer(
      address: arguments.address, port: arguments.port, service: image.service, settings: settings)
    try server.start()
    log("\(arguments.service.rawValue) \(arguments.version) listens on \(arguments.address) port \(server.port)")
    stopSignals.wait()
    server.stop()
  }

  private static func fail(_ message: String, code: Int32) {
    log(message)
    exit(code)
  }
}

/// A line on standard error, whole in one write.
func log(_ message: String) {
  let line = Array("BookinfoDemo: \(message)\n".utf8)
  _ = write(STDERR_FILENO, line, line.count)
}

/// SIGTERM and SIGINT, taken by the thread that waits for them; made before any other thread is.
struct StopSignals {
  private var signals = sigset_t()

  init() {
    sigemptyset(&signals)
    sigaddset(&signals, SIGTERM)
    sigaddset(&signals, SIGINT)
    pthread_sigmask(SIG_BLOCK, &signals, nil)
  }

  func wait() {
    var signals = signals
    var received: Int32 = 0
    while sigwait(&signals, &received) != 0 {}
  }
}
