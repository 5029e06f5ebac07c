import MeshConfig
import Proxy
import Synchronization
import Telemetry

/// The files that a MeshConfig has requests logged to, each opened once.
final class RequestLogs: Sendable {
  private let open = Mutex<[String: NodeLog]>([:])
  private let directory: String
  private let log: NodeLog

  /// - Parameter directory: where files are written: configuration says their names, not where on the host they are.
  init(in directory: String, _ log: NodeLog) {
    self.directory = directory
    self.log = log
  }

  /// A file that cannot be written is said in the node's own log.
  func options(for wanted: MeshConfiguration.AccessLog, over options: ProxyOptions) -> ProxyOptions {
    var options = options
    options.accessLog = sink(wanted.file ?? "")
    options.accessLogFormat = wanted.format
    options.otherAccessLogs = wanted.others.compactMap { other in
      sink(other.file ?? "").map { AccessLogOutput(format: other.format, sink: $0) }
    }
    return options
  }

  private func sink(_ path: String) -> (@Sendable ([UInt8]) -> Void)? {
    switch path {
    case "": return nil
    case "/dev/stdout": return { NodeLog.standardOutput.append($0) }
    case "/dev/stderr": return { [log] in log.append($0) }
    default: break
    }
    let name = path.split(separator: "/").last.map {
      $0.filter { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "." || $0 == "-") }
    }
    guard let name, name.contains(where: { $0 != "." }) else {
      log.warning("accessLogFile '\(path)' names no file: requests are not logged")
      return nil
    }
    return open.withLock { known in
      if let found = known[name] { return { found.append($0) } }
      do throws(StartFailure) {
        let opened = try NodeLog(node: "", path: "\(directory)/\(name)")
        known[name] = opened
        return { opened.append($0) }
      } catch {
        log.warning("\(error): requests are not logged")
        return nil
      }
    }
  }
}
