// The echo server of grpc-go that the benchmarks measure: `server --listen 127.0.0.1:0` prints `listening on ADDRESS`.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	bench "apusbench/bench"
	echo "apusbench/echo/v1"
)

const messageText = "this is echo number 0000000000"

type server struct {
	echo.UnimplementedEchoServiceServer
}

func (*server) Get(_ context.Context, request *echo.EchoRequest) (*echo.EchoResponse, error) {
	return &echo.EchoResponse{Text: request.Text}, nil
}

func (*server) Update(stream echo.EchoService_UpdateServer) error {
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&echo.EchoResponse{Text: request.Text}); err != nil {
			return err
		}
	}
}

func (*server) Repeat(request *echo.EchoRequest, stream bench.BenchService_RepeatServer) error {
	count, err := strconv.ParseUint(request.Text, 10, 64)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	for ; count > 0; count-- {
		if err := stream.Send(&echo.EchoResponse{Text: messageText}); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "HOST:PORT")
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	stack := grpc.NewServer()
	echo.RegisterEchoServiceServer(stack, &server{})
	bench.RegisterBenchServiceServer(stack, &server{})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		stack.Stop()
	}()
	fmt.Printf("listening on %s\n", listener.Addr())
	if err := stack.Serve(listener); err != nil {
		log.Fatal(err)
	}
}
