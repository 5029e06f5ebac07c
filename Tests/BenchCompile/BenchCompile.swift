import Glibc
import MeshConfig
import Primitives
import Proxy

/// What it takes to turn changes of a large mesh into what is served: `make bench-compile`.
@main
struct BenchCompile {
  static func main() async {
    do { try await Measurement(SampleMesh(services: 1_000, replicas: 10)).run() } catch {
      print("bench-compile: \(error)")
      exit(1)
    }
  }
}

/// One mesh, changed again and again.
struct Measurement {
  private let mesh: SampleMesh

  init(_ mesh: SampleMesh) { self.mesh = mesh }

  func run() async throws {
    print("\(mesh.services) services, \(mesh.services * mesh.replicas) endpoints, \(mesh.services) VirtualServices")
    let objects = try mesh.objects()
    // First, while nothing has been freed that could be used again.
    let before = Self.residentBytes()
    var compiler = try filled(objects)
    var (snapshot, _) = compiler.compile(revision: 1, registryVersion: 1)
    let bytes = Self.residentBytes() - before
    print("memory of compiler and snapshot: \(bytes >> 10) KB, \(bytes / (mesh.services * mesh.replicas)) bytes an endpoint")
    try fullCompilation(objects)

    let runtime = try ProxyRuntime(workers: 2, serving: ProxyState(snapshot: snapshot))
    var compiling = Samples("one endpoint changed: compile")
    var serving = Samples("one endpoint changed: until two workers serve it")
    for round in 0..<1_000 {
      let record = try mesh.workload(
        round * 7 % mesh.services, 1 + round % (mesh.replicas - 1), health: round / mesh.services % 2 == 0 ? .leaving : .healthy
      )
      let start = Moment()
      compiler.put(record)
      snapshot = compiler.compile(revision: 1, registryVersion: UInt64(round + 2)).snapshot
      let compiled = Moment()
      _ = await runtime.publish(ProxyState(snapshot: snapshot))
      compiling.add(from: start, to: compiled)
      serving.add(from: compiled, to: Moment())
    }
    print(compiling, serving, separator: "\n")

    try await change("VirtualService", rounds: 200) { index, round in
      try SampleMesh.stored(SampleMesh.virtualService(index, timeout: 10 + round), from: UInt64(2 * index + 2))
    }
    try await change("DestinationRule", rounds: 200) { index, round in
      try SampleMesh.stored(SampleMesh.destinationRule(index, subsets: 1 + round % 3), from: 10_000)
    }
    try await change("Service", rounds: 50) { index, round in
      try SampleMesh.stored(SampleMesh.service(index, port: 81 + round), from: UInt64(2 * index + 1))
    }
    await runtime.stop()

    func change(_ kind: String, rounds: Int, _ made: (_ index: Int, _ round: Int) throws -> [StoredObject]) async throws {
      var compiling = Samples("one \(kind) changed: compile")
      var serving = Samples("one \(kind) changed: until two workers serve it")
      for round in 0..<rounds {
        let changed = try made(round * 7 % mesh.services, round)
        let start = Moment()
        for object in changed { compiler.put(object) }
        snapshot = compiler.compile(revision: UInt64(round + 2), registryVersion: 2_000).snapshot
        let compiled = Moment()
        _ = await runtime.publish(ProxyState(snapshot: snapshot))
        compiling.add(from: start, to: compiled)
        serving.add(from: compiled, to: Moment())
      }
      print(compiling, serving, separator: "\n")
    }
  }

  private func filled(_ objects: [StoredObject]) throws -> SnapshotCompiler {
    var compiler = SnapshotCompiler(settings: try mesh.settings, id: 1)
    for object in objects { compiler.put(object) }
    try mesh.forEachWorkload { compiler.put($0) }
    return compiler
  }

  private func fullCompilation(_ objects: [StoredObject]) throws {
    var workloads: [WorkloadRecord] = []
    try mesh.forEachWorkload { workloads.append($0) }
    let settings = try mesh.settings
    var samples = Samples("full compilation")
    for _ in 0..<9 {
      let start = Moment()
      let (snapshot, findings) = MeshSnapshot.compile(
        revision: 1, registryVersion: 1, objects: objects, workloads: workloads, settings: settings)
      samples.add(from: start, to: Moment())
      guard snapshot.services.count == mesh.services, findings.isEmpty else {
        throw BenchError("unexpected result: \(findings.prefix(3))")
      }
    }
    print(samples)
  }

  private static func residentBytes() -> Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var text = [CChar](repeating: 0, count: 256)
    guard fgets(&text, Int32(text.count), file) != nil else { return 0 }
    let words = String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self).split(separator: " ")
    return words.count > 1 ? (Int(words[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE)) : 0
  }
}

/// A moment on the wall, and what this process had computed by then.
struct Moment {
  private let wall = ContinuousClock.now
  private let computed = Self.processTime()

  func wall(since earlier: Moment) -> Duration { wall - earlier.wall }
  func computed(since earlier: Moment) -> Duration { computed - earlier.computed }

  private static func processTime() -> Duration {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
  }
}

/// Times of one kind of work, on the wall and of the processor: the latter hardly depends on what else the machine does.
struct Samples: CustomStringConvertible {
  private let name: String
  private var wall: [Duration] = []
  private var computed: [Duration] = []

  init(_ name: String) { self.name = name }

  mutating func add(from start: Moment, to end: Moment) {
    wall.append(end.wall(since: start))
    computed.append(end.computed(since: start))
  }

  private static func milliseconds(_ times: [Duration], _ share: Double) -> String {
    let sorted = times.sorted()
    guard !sorted.isEmpty else { return "-" }
    let microseconds = Int(sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))] / .microseconds(1))
    return "\(microseconds / 1_000).\(String(microseconds % 1_000 + 1_000).dropFirst())"
  }

  var description: String {
    "\(name): p50 \(Self.milliseconds(wall, 0.5)) ms, p99 \(Self.milliseconds(wall, 0.99)) ms, "
      + "processor p50 \(Self.milliseconds(computed, 0.5)) ms, over \(wall.count)"
  }
}
