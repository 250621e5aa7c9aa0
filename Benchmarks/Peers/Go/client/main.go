// The client of grpc-go that the benchmarks measure; its command line is that of Floor/floor-client.c.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"

	bench "apusbench/bench"
	echo "apusbench/echo/v1"
)

const messageText = "this is echo number 0000000000"

// A shape makes so many calls, or sends so many messages, and adds the time that each took.
type shape func(count int, latencies *[]time.Duration)

func check(text string) {
	if text != messageText {
		log.Fatalf("not the echo of the request: %q", text)
	}
}

func checkError(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func unary(client echo.EchoServiceClient, inFlight int) shape {
	return func(count int, latencies *[]time.Duration) {
		var group sync.WaitGroup
		var lock sync.Mutex
		for i := 0; i < inFlight; i++ {
			share := (count + i) / inFlight
			group.Add(1)
			go func() {
				defer group.Done()
				own := make([]time.Duration, 0, share)
				for ; share > 0; share-- {
					began := time.Now()
					response, err := client.Get(context.Background(), &echo.EchoRequest{Text: messageText})
					checkError(err)
					check(response.Text)
					own = append(own, time.Since(began))
				}
				lock.Lock()
				*latencies = append(*latencies, own...)
				lock.Unlock()
			}()
		}
		group.Wait()
	}
}

func pingPong(client echo.EchoServiceClient) shape {
	stream, err := client.Update(context.Background())
	checkError(err)
	return func(count int, latencies *[]time.Duration) {
		for ; count > 0; count-- {
			began := time.Now()
			checkError(stream.Send(&echo.EchoRequest{Text: messageText}))
			response, err := stream.Recv()
			checkError(err)
			check(response.Text)
			*latencies = append(*latencies, time.Since(began))
		}
	}
}

func oneWay(client bench.BenchServiceClient) shape {
	return func(count int, _ *[]time.Duration) {
		request := &echo.EchoRequest{Text: strconv.Itoa(count)}
		stream, err := client.Repeat(context.Background(), request)
		checkError(err)
		for ; count > 0; count-- {
			response, err := stream.Recv()
			checkError(err)
			check(response.Text)
		}
		if _, err := stream.Recv(); err != io.EOF {
			log.Fatalf("the stream did not end with OK: %v", err)
		}
	}
}

func cpu() time.Duration {
	var usage syscall.Rusage
	checkError(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func percentile(sorted []time.Duration, percent int) string {
	if len(sorted) == 0 {
		return "null"
	}
	return fmt.Sprintf("%.1f", float64(sorted[len(sorted)*percent/100].Nanoseconds())/1000)
}

func main() {
	target := flag.String("target", "", "HOST:PORT")
	name := flag.String("shape", "unary", "unary, ping-pong or stream")
	inFlight := flag.Int("in-flight", 1, "calls at once, of unary")
	calls := flag.Int("calls", 0, "how many are measured")
	warmUp := flag.Int("warm-up", 0, "how many go before")
	flag.Parse()
	if *calls <= 0 || *inFlight <= 0 {
		log.Fatal("--calls and --in-flight are at least 1")
	}
	channel, err := grpc.Dial(*target, grpc.WithInsecure(), grpc.WithBlock())
	checkError(err)
	var run shape
	switch *name {
	case "unary":
		run = unary(echo.NewEchoServiceClient(channel), *inFlight)
	case "ping-pong":
		if *inFlight != 1 {
			log.Fatal("ping-pong has one message in flight")
		}
		run = pingPong(echo.NewEchoServiceClient(channel))
	case "stream":
		run = oneWay(bench.NewBenchServiceClient(channel))
	default:
		log.Fatalf("unknown shape %s", *name)
	}
	if *warmUp > 0 {
		run(*warmUp, &[]time.Duration{})
	}
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')

	latencies := make([]time.Duration, 0, *calls)
	usedBefore, began := cpu(), time.Now()
	run(*calls, &latencies)
	used, seconds := cpu()-usedBefore, time.Since(began).Seconds()
	if *name != "stream" && len(latencies) != *calls {
		log.Fatalf("%d of %d calls were made", len(latencies), *calls)
	}
	sort.Slice(latencies, func(i, j int) bool { return latencies[i] < latencies[j] })
	fmt.Printf(`{"calls":%d,"seconds":%.6f,"cpu_microseconds":%.1f,"p50_microseconds":%s,"p99_microseconds":%s}`+"\n",
		*calls, seconds, float64(used.Nanoseconds())/1000, percentile(latencies, 50), percentile(latencies, 99))
}
